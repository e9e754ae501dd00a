"""docs/results.md shows what the committed tables say."""

from pathlib import Path

from scripts.claims import FOUR, NOT_RUN, evidence, evidence_markdown, markdown, page, rows
from theory.shared.findings import VERDICTS

RESULTS = Path(__file__).parent.parent / "docs" / "results.md"


def test_the_page_has_the_table_that_its_script_makes():
    text = RESULTS.read_text(encoding="utf-8")
    assert page(text) == text
    assert markdown() in text
    assert evidence_markdown() in text


def test_a_verdict_is_one_of_four_words_or_says_that_there_is_no_interval():
    for row in rows():
        assert row.word in VERDICTS or row.word.startswith("no interval"), row
        assert row.networks >= 3 or row.word == "not resolved", row


def test_the_coupling_on_photographs_separates_in_nine_of_ten_networks_or_more():
    first = next(row for row in rows() if row.data == "photographs")
    assert first.claim.startswith("C1")
    assert first.networks == 10
    assert first.word in ("holds", "holds in direction")


def test_four_networks_on_two_data_sets_have_no_empty_cell():
    found = evidence()
    assert found["word"].isin(VERDICTS).all()
    assert (found["networks"] >= 3).where(found["word"] != "not resolved", True).all()
    lines = [line.strip("|").split("|") for line in evidence_markdown().splitlines()[2:]]
    by_data = found[found["data"] != "both"].groupby("claim")["data"].nunique()
    assert (by_data == 2).all()
    assert len(lines) == 2 * len(by_data) + 1  # C6 is of both
    for line in lines:
        assert len(line) == 2 + len(FOUR)
        assert all(cell.strip() for cell in line)
        assert all(cell.strip().startswith(("**", NOT_RUN)) for cell in line[2:])
