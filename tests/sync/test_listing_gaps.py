"""A listing that brings fewer models than it says it has is not called whole."""

from __future__ import annotations

import contextlib
import json
from itertools import count

import pytest
from support.documents import make_document, make_model, many_models
from support.syncing import environment, mirror, run_sync
from support.upstream import Edit, FaultyUpstream

from registry_mirror import Mirror, NotFoundError
from registry_mirror.catalog import Catalog
from registry_mirror.sources.api import paging
from registry_mirror.sources.source import ListingSummary
from registry_mirror.store.layout import Layout
from registry_mirror.sync import identity
from registry_mirror.sync import record as gaps
from registry_mirror.sync.record import RunOutcome


def lacking(*numbers):
    """Rows left out of pages whose total counts them."""
    ids = {make_document(number)["id"] for number in numbers}

    def without(body):
        for key in ("data", "models"):
            if key in body:
                body[key] = [row for row in body[key] if row["id"] not in ids]
        return body

    return Edit(without)


def totalling(more):
    def change(body):
        body["pagination"]["total"] += more
        return body

    return Edit(change)


def last_run(root):
    return json.loads((root / "run.json").read_bytes())


@pytest.fixture
def upstream():
    with FaultyUpstream(many_models(12)) as running:
        yield running


def lists(upstream):
    return sum(path.endswith("/models/") for _, _, path in upstream.requests.log)


def test_a_row_that_slips_between_the_pages_of_the_first_run_comes_with_the_next_reading(upstream, root):
    upstream.inject(lacking(4), kind="list", times=1)
    finished = run_sync(upstream, root)
    assert (finished.exit_code, finished.record.tally.listed, finished.record.tally.gaps) == (0, 12, ())
    assert lists(upstream) == 3


def test_a_gap_that_stays_makes_the_first_run_partial_with_both_numbers_and_is_no_sync(upstream, root):
    upstream.inject(lacking(4), kind="list", times=None)
    finished = run_sync(upstream, root)
    assert (finished.exit_code, finished.record.outcome) == (3, RunOutcome.PARTIAL)
    assert "says that it has 12 models and brought 11" in finished.record.last_line()
    assert lists(upstream) == 4  # three times the live ones, once the archived
    said = last_run(root)
    assert said["last_synced_at"] is None
    assert said["run"]["listing_gaps"] == [{"listing": "live", "total": 12, "received": 11, "usual": False}]
    assert "12 models and brought 11" in said["run"]["error"]
    assert Mirror(root).models.path("model-00000").exists()


@pytest.mark.parametrize("accept", [False, True])
def test_a_gap_marks_nothing_gone_and_asks_for_nothing_by_id(upstream, root, accept):
    run_sync(upstream, root)
    before = last_run(root)["last_synced_at"]
    upstream.remove(make_document(3)["id"])
    upstream.inject(totalling(1), kind="list", times=None)
    upstream.requests.clear()
    assert run_sync(upstream, root, accept_shrink=accept).exit_code == 3
    assert upstream.requests.api == lists(upstream)
    assert Mirror(root).models.get("model-00003").mirror.gone_at is None
    assert last_run(root)["last_synced_at"] == before


def test_an_upstream_that_counts_something_else_is_partial_three_times_and_then_only_told(upstream, root):
    upstream.inject(totalling(5), kind="list", path="", times=None)
    assert [run_sync(upstream, root).exit_code for _ in range(3)] == [3, 3, 3]
    assert last_run(root)["last_synced_at"] is None
    upstream.requests.clear()
    finished = run_sync(upstream, root)
    assert (finished.exit_code, finished.record.error, lists(upstream)) == (0, None, 2)
    assert last_run(root)["last_synced_at"] is not None
    upstream.add(make_model(50))  # the numbers differ, the gap does not
    upstream.remove(make_document(3)["id"])
    finished = run_sync(upstream, root)
    assert (finished.exit_code, finished.record.tally.gone) == (0, 1)
    env = environment(upstream, root)
    told = json.loads(mirror("status", "--json", env=env).stdout)["listing_gaps"]
    assert {"listing": "live", "total": 17, "received": 12, "usual": True} in told
    assert "the listing says that it has 17 and brought 12, as it always does" in mirror("status", env=env).stdout


def test_another_gap_begins_anew_and_none_forgets_it(upstream, root):
    three = upstream.inject(totalling(5), kind="list", times=None)
    assert [run_sync(upstream, root).exit_code for _ in range(4)] == [3, 3, 3, 0]
    three.times = 0
    other = upstream.inject(totalling(6), kind="list", times=None)
    assert run_sync(upstream, root).exit_code == 3
    other.times = 0
    assert run_sync(upstream, root).exit_code == 0
    upstream.inject(totalling(5), kind="list", times=None)
    assert run_sync(upstream, root).exit_code == 3


def test_a_listing_without_a_total_that_promises_more_and_brings_none_is_not_whole(upstream, root):
    def cut(body):
        """The rows up to 8; the page at 8 has two, says that there are more, and the next one is empty."""
        offset = body["pagination"]["offset"]
        for key in ("data", "models"):
            if key in body:
                body[key] = body[key][: max(0, 10 - offset)]
        body["pagination"] = {"has_more": True}
        return body

    upstream.inject(Edit(cut), kind="list", times=None)
    finished = run_sync(upstream, root, {"upstream.page_size": 4})
    assert finished.exit_code == 3
    assert "says that it has more than the 10 models that it brought" in finished.record.last_line()


def test_a_gap_of_the_archived_models_is_told_as_such(root):
    class Archived(FaultyUpstream):
        def api(self, request):
            answer = super().api(request)
            return totalling(2)(request, lambda: answer) if "status=archived" in request.target else answer

    with Archived(many_models(3)) as counting:
        finished = run_sync(counting, root)
    assert finished.exit_code == 3
    assert "the listing of archived models says that it has 2 models and brought 0" in finished.record.last_line()


class Counting(FaultyUpstream):
    """An upstream whose archived listing says that it has so many models; by default as many as there are live ones."""

    said = None

    def api(self, request):
        answer = super().api(request)
        if "status=archived" not in request.target:
            return answer
        count = self.said or sum(model.document["status"] != "archived" for model in self.models)
        return Edit(lambda body: body | {"pagination": body["pagination"] | {"total": count}})(request, lambda: answer)


def with_archived(live, archived):
    return [*many_models(live), *many_models(archived, start=live, status="archived")]


def test_a_gap_of_the_archived_models_is_not_hidden_by_a_total_that_is_by_chance_that_of_the_live_ones(root):
    with Counting(with_archived(3, 2)) as upstream:
        finished = run_sync(upstream, root)
    assert finished.exit_code == 3
    assert "the listing of archived models says that it has 3 models and brought 2" in finished.record.last_line()


def test_a_count_that_never_heeds_the_status_stays_usual_when_models_come(root):
    with Counting(with_archived(4, 2)) as upstream:
        assert [run_sync(upstream, root).exit_code for _ in range(4)] == [3, 3, 3, 0]
        upstream.add(make_model(50))
        assert run_sync(upstream, root).exit_code == 0
        upstream.said = 9
        assert run_sync(upstream, root).exit_code == 3


def test_a_run_whose_listing_has_no_end_says_that_nothing_was_marked_gone_and_names_the_setting(
    upstream, root, monkeypatch
):
    monkeypatch.setattr(paging, "MOST_ROWS", 5)
    finished = run_sync(upstream, root)
    assert finished.exit_code == 1
    assert "no end to it after 1 pages with 12 rows; nothing was marked gone" in str(finished.error)
    assert "upstream.page_size" in str(finished.error)


def test_rows_that_cannot_be_read_count_as_received(upstream, root):
    def spoil(body):
        for key in ("data", "models"):
            if key in body:
                body[key] = [{**row, "id": 7} if number == 3 else row for number, row in enumerate(body[key])]
        return body

    upstream.inject(Edit(spoil), kind="list", times=None)
    finished = run_sync(upstream, root)
    assert (finished.record.tally.gaps, len(finished.record.tally.failed)) == ((), 1)


def test_a_dry_run_tells_a_gap_and_writes_nothing(upstream, root):
    upstream.inject(lacking(4), kind="list", times=None)
    done = mirror("sync", "--dry-run", "--json", env=environment(upstream, root))
    plan = json.loads(done.stdout)["plan"]
    assert (done.returncode, plan["absent"], plan["listing_gaps"][0]["total"]) == (3, [], 12)
    assert "12 models and brought 11" in done.stderr
    assert not root.exists()


def test_a_name_that_the_gap_may_hide_is_told_with_the_gap(upstream, root):
    upstream.inject(lacking(4), kind="list", times=None)
    with pytest.raises(NotFoundError, match=r"model-00004.*12 models and brought 11"):
        run_sync(upstream, root, named=frozenset({"model-00004"}))
    assert run_sync(upstream, root, named=frozenset({"model-00005"})).exit_code == 3
    assert Mirror(root).models.path("model-00005").exists()


def test_the_alert_gets_both_numbers(upstream, root, tmp_path):
    upstream.inject(lacking(4), kind="list", times=None)
    alert = tmp_path / "alert.sh"
    alert.write_text(f"#!/bin/sh\ncat > {tmp_path / 'record'}\n")
    alert.chmod(0o755)
    done = mirror("sync", env=environment(upstream, root, MIRROR_SYNC_ON_FAILURE=str(alert)))
    assert done.returncode == 3
    (gap,) = json.loads((tmp_path / "record").read_bytes())["run"]["listing_gaps"]
    assert (gap["total"], gap["received"]) == (12, 11)


def test_what_is_remembered_of_gaps_is_found_again():
    facts, short, whole = {}, {"live": ListingSummary({"1"}, 0, 3)}, {"live": ListingSummary({"1"}, 0, 1)}
    for _ in range(3):
        found = gaps.find_gaps(short, facts)
        assert not found[0].usual
        facts |= gaps.remember(found, facts)
    assert gaps.find_gaps(short, facts)[0].usual
    assert gaps.remember(gaps.find_gaps(short, facts), facts) == {}
    facts |= gaps.remember(gaps.find_gaps(whole, facts), facts)
    assert facts == {gaps.FACT: ""}


@pytest.mark.parametrize(
    "damaged",
    ["{", "[]", "null", "7", '{"live": 3}', '{"live": [1, 2, 3]}', '{"live": ["5", []]}', '{"live": ["5", "x"]}'],
)
def test_a_damaged_memory_of_gaps_is_none_and_the_next_run_writes_it_anew(upstream, root, damaged):
    assert run_sync(upstream, root).exit_code == 0
    with contextlib.closing(Catalog(Layout(root).catalog)) as catalog:
        catalog.set_facts({gaps.FACT: damaged})
    assert run_sync(upstream, root).exit_code == 0
    with contextlib.closing(Catalog(Layout(root).catalog)) as catalog:
        assert catalog.facts()[gaps.FACT] == ""


@pytest.mark.parametrize("spoilt", [{"id": 5}, {"name": None}])
def test_a_model_that_is_listed_but_unreadable_is_no_unknown_name(upstream, root, spoilt):
    document = make_document(3)
    named = "model-00003" if "id" in spoilt else document["id"]

    def spoil(body):
        rows = [{**row, **spoilt} if row["id"] == document["id"] else row for row in body["data"]]
        return {"data": rows, "pagination": body["pagination"]}

    upstream.inject(Edit(spoil), kind="list", times=None)
    assert mirror("sync", "--dry-run", named, env=environment(upstream, root)).returncode == 0
    finished = run_sync(upstream, root, named=frozenset({named}))
    (failed,) = finished.record.tally.failed
    assert finished.exit_code == 3
    assert named in (failed.id, failed.name)
    assert "not a text" in failed.error
    with pytest.raises(NotFoundError):
        run_sync(upstream, root, named=frozenset({"model-00099"}))


def test_a_dry_run_calls_a_model_that_became_unreadable_no_more_absent_than_the_run_does(upstream, root):
    run_sync(upstream, root)
    upstream.inject(Edit(lambda body: {"data": [{"id": row["id"]} for row in body["data"]]}), kind="list", times=None)
    plan = json.loads(mirror("sync", "--dry-run", "--json", env=environment(upstream, root)).stdout)["plan"]
    upstream.requests.clear()
    finished = run_sync(upstream, root)
    assert (plan["absent"], plan["shrinks"]) == ([], False)
    assert (upstream.requests.api - lists(upstream), finished.error, len(finished.record.tally.failed)) == (0, None, 12)


def test_pages_that_do_not_show_whose_registry_it_is_do_not_fill_the_memory(root, monkeypatch):
    with FaultyUpstream(many_models(3)) as upstream:
        run_sync(upstream, root)
        monkeypatch.setattr(identity, "_MOST_HELD", 50_000)
        number = count(100)

        def strangers(body):
            """A page of public models of somebody else's, with ever new ids, and the word that there are more."""
            rows = [
                {**make_document(next(number)), "organization_id": "theirs", "visibility": "public"} for _ in range(10)
            ]
            return {"data": rows, "pagination": {"has_more": True}}

        pages = upstream.inject(Edit(strangers), kind="list", times=None)
        finished = run_sync(upstream, root)
    assert (finished.exit_code, finished.record.tally.listed) == (2, 0)
    assert "this root mirrors organisation" in str(finished.error)
    assert pages.hits < 30


def test_thousands_of_rows_that_are_no_models_are_noted_in_little_time(root):
    with FaultyUpstream([]) as upstream:
        upstream.inject(Edit(lambda body: {"data": [{"id": f"m{n}"} for n in range(8000)]}), kind="list", times=1)
        finished = run_sync(upstream, root)
    assert len(finished.record.tally.failed) == 8000
    took = finished.record.finished_at - finished.record.tally.started_at
    assert took.total_seconds() < 8
