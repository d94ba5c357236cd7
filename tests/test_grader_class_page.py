"""The class report as a person uses it, in headless Chromium: sort, search, point, click; ten and a thousand."""

import random
from datetime import UTC, datetime
from pathlib import Path

import pytest
from classroom_stub import report

from grader.classroom import page
from grader.classroom.collect import Submission
from grader.classroom.exports import feedback, write_exports
from grader.classroom.gradebook import GRADED, INCONCLUSIVE, Gradebook, Record, Result
from grader.classroom.policy import Policy, standings
from grader.classroom.similar import Pair
from grader.grade import grade
from grader.points import CHECKS, load
from grader.report import html as report_html


def write_class(folder: Path, size: int, more: tuple[str, ...] = ()) -> Path:
    """A report with feedback pages of a generated class; more: rows that everybody has, besides the stub's."""
    chance = random.Random(3)
    with Gradebook(folder / "g.sqlite") as book, book.transaction():
        for i in range(size):
            name = ("long" * 40 if i == 2 else f"Student {i:04}") if i % 9 else f"李 {i} <i>"
            source = f"# {i}".encode()
            s = Submission(str(9000 + i), name, source, datetime(2026, 11, 20, 12, tzinfo=UTC))
            book.db.execute(
                "insert into submission (student, name, sha256, source, received, marked_late, problem)"
                " values (?, ?, ?, ?, ?, 0, ?)",
                (s.student, s.name, s.sha256, source, s.received.isoformat(), "no parallel.py" if i % 10 == 7 else ""),
            )
    with Gradebook(folder / "g.sqlite") as book:
        for record in book.records():
            if record.submission.problem:
                continue
            score = float(chance.randrange(20, 101)) if record.id % 10 else None
            found = report(score, chance.uniform(0.9, 1.9) if score else None)
            found["tests"] += [{"name": name, "tags": [name], "score": -2.5, "output": ""} for name in more]
            book.store(record.id, Result("x", INCONCLUSIVE if score is None else GRADED, found, "<h1>feedback</h1>"))
        lines = standings(book.records(), Policy())
    pairs = [Pair("9001", "9002", 0.97)] + [Pair(f"{n}", f"{n + 1}", 0.8) for n in range(9010, 9016)]
    write_exports(lines, folder)
    path = folder / "report.html"
    path.write_text(page.render(lines, pairs, "Our class"), encoding="utf-8")
    return path


def without_file(name: str) -> Record:
    """Of a student who handed in nothing that can be graded."""
    return Record(1, Submission(name, name, b"", None, False, f"no parallel.py (found: {name})"), None, 0)


def names(driver) -> list[str]:
    return driver.execute_script(
        "return [...document.querySelectorAll('tbody tr td:first-child')].map(t => t.textContent)"
    )


def column(driver, title: str) -> list[str]:
    return driver.execute_script(
        "const i = [...document.querySelectorAll('thead th')].findIndex(t => t.textContent.trim() === arguments[0]);"
        "return [...document.querySelectorAll('tbody tr')].map(r => r.children[i].textContent)", title,
    )  # fmt: skip


def press(driver, title: str) -> None:
    button = next(b for b in driver.find_elements("css selector", "thead button") if b.text.strip() == title)
    driver.execute_script("arguments[0].click()", button)


def no_errors(driver) -> bool:
    return [e for e in driver.get_log("browser") if e["level"] in ("SEVERE", "WARNING")] == []


def test_sorting_and_searching(driver, tmp_path):
    driver.get(write_class(tmp_path, 40).as_uri())
    assert len(names(driver)) == 40 and names(driver) == sorted(names(driver), key=str.casefold)
    press(driver, "points")
    points = column(driver, "points")
    given = [float(p) for p in points if p]
    assert given == sorted(given, reverse=True) and points[len(given) :] == [""] * (40 - len(given))
    press(driver, "points")
    points = column(driver, "points")
    assert [float(p) for p in points if p] == given[::-1] and points[-1] == ""  # who has none stays at the end
    field = driver.find_element("css selector", "#search")
    field.send_keys("inconclusive student")
    found = column(driver, "status")
    assert found and set(found) == {"inconclusive"}
    assert driver.find_element("css selector", "#shown").text == f"{len(found)} of 40"
    field.clear()
    field.send_keys("nobody at all")
    assert names(driver) == [] and no_errors(driver)


def test_pointing_and_clicking(driver, tmp_path):
    driver.get(write_class(tmp_path, 40).as_uri())
    lines = driver.find_elements("css selector", "#plot a")
    assert len(lines) > 20
    line = lines[5]
    name = line.get_attribute("data-name")
    driver.execute_script("arguments[0].dispatchEvent(new MouseEvent('mouseover', {bubbles: true}))", line)
    assert driver.find_element("css selector", "#who").text.startswith(f"{name}: ")
    assert no_errors(driver)
    driver.execute_script(
        "arguments[0].dispatchEvent(new MouseEvent('click', {bubbles: true, cancelable: true}))", line
    )
    assert "/feedback/" in driver.current_url
    assert driver.find_element("css selector", "h1").text == "feedback"
    driver.back()
    driver.find_element("link text", names(driver)[0]).click()
    assert "feedback/" in driver.current_url


def test_near_identical_programs_are_groups_with_all_their_names(driver, tmp_path):
    driver.get(write_class(tmp_path, 40).as_uri())
    heading = driver.find_element("xpath", "//h2[text()='Near-identical submissions']/..")
    assert f"Student 0001 and {'long' * 40} 97" in heading.text.replace("\N{NO-BREAK SPACE}", " ")
    group = heading.find_element("css selector", "details")
    assert group.text.startswith("7 programs, among them Student 0010's")
    group.find_element("css selector", "summary").click()
    assert [a.text for a in group.find_elements("css selector", "a")] == [f"Student {n:04}" for n in range(10, 17)]
    assert no_errors(driver)


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("size", [0, 1, 10])
def test_nothing_is_cut_off_at_any_width(driver, tmp_path, size, width):
    driver.set_window_size(width, 900)
    try:
        driver.get(write_class(tmp_path, size).as_uri())
        assert driver.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
        assert len(names(driver)) == size and no_errors(driver)
        (bad := tmp_path / f"{'long' * 40}.py").touch()
        for text in (report_html(grade(bad)), feedback(standings([without_file("long" * 40)], Policy())[0])):
            (tmp_path / "page.html").write_text(text, encoding="utf-8")
            driver.get((tmp_path / "page.html").as_uri())
            assert driver.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    finally:
        driver.set_window_size(1280, 900)


def test_all_rows_of_a_grade_fit_beside_each_other(driver, tmp_path):
    """The thread checks share a column; on a telephone, where the table is moved, the names stay."""
    rows = [check.name for check in CHECKS if check.name not in ("public", "threads", "speed")]
    deductions = [f"check-{kind}" for kind in load().deductions]
    path = write_class(tmp_path, 12, (*rows, "threads-2", "threads-4", "speed-2", "speed-4", *deductions))
    try:
        driver.set_window_size(1280, 900)
        driver.get(path.as_uri())
        wide, there = driver.execute_script(
            "const s = document.querySelector('.scroll');return [s.scrollWidth, s.clientWidth]"
        )
        assert wide <= there and "-27.5" in column(driver, "checks")
        driver.set_window_size(400, 900)
        left = "document.querySelector('.scroll').scrollLeft = 300; const at = document.querySelector('tbody td');"
        assert driver.execute_script(f"{left} return at.getBoundingClientRect().left") >= 0 and no_errors(driver)
    finally:
        driver.set_window_size(1280, 900)


@pytest.mark.parametrize("name", ["report.html", "classroom/page.html"])
def test_scroll_bars_and_fields_are_dark_too(name):
    text = (Path(page.__file__).parents[1] / name).read_text()
    assert "prefers-color-scheme: dark" in text and "color-scheme: light dark" in text


@pytest.mark.long
def test_a_thousand_open_and_sort(driver, tmp_path):
    path = write_class(tmp_path, 1000)
    assert path.stat().st_size < 5_000_000
    driver.get(path.as_uri())
    press(driver, "points")
    assert len(names(driver)) == 1000
    assert no_errors(driver)
