"""What an event becomes in Slack: the words, the limits, and that no payload can write markup of its own."""

import json
import re
import tracemalloc
from collections.abc import Iterator
from importlib.resources import files
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tenterhook.errors import ConfigurationError
from tenterhook.markup import Marks, Writer, clean, cut, safe_url, shortened, span
from tenterhook.model import Message
from tenterhook.senders import chat
from tenterhook.senders.slack import render
from tenterhook.templates import Chat, Templates, fitted, without_empty

DATA = files("tenterhook") / "data" / "github"
NOW = 1_700_000_000_000_000
SLACK = chat.chat("slack").marks
WHO = "<https://github.com/Codertocat|Codertocat>"
REPO = "<https://github.com/Codertocat/Hello-World|Codertocat/Hello-World>"
NAMES = sorted(
    entry.name.removesuffix(".payload.json") for entry in DATA.iterdir() if entry.name.endswith(".payload.json")
)


def payload(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((DATA / f"{name}.payload.json").read_bytes())
    return document


def message(event_type: str, document: object, content_type: str = "application/json") -> Message:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return Message(
        id="msg_1", app="app_1", event_type=event_type, payload=body, content_type=content_type, created_at=NOW
    )


def event_of(name: str) -> str:
    return "github." + name.removesuffix(".default")


def shown(event_type: str, document: object) -> dict[str, Any]:
    """The one attachment of a message."""
    made = render(message(event_type, document))
    assert made is not None
    [attachment] = made["attachments"]  # type: ignore[misc]  # JSON
    return dict(attachment)


def fields(attachment: dict[str, Any]) -> dict[str, str]:
    return {field["title"]: field["value"] for field in attachment.get("fields", [])}


# The words


def test_an_issue_is_opened() -> None:
    assert render(message("github.issues.opened", payload("issues.opened"))) == {
        "unfurl_links": False,
        "unfurl_media": False,
        "attachments": [
            {
                "color": "#36a64f",
                "fallback": "[Codertocat/Hello-World] Issue opened by Codertocat: #1 Spelling error in the README file",
                "pretext": f"Issue opened by {WHO}",
                "title": "#1 Spelling error in the README file",
                "title_link": "https://github.com/Codertocat/Hello-World/issues/1",
                "text": "It looks like you accidently spelled 'commit' with two 't's.",
                "fields": [
                    {"title": "Assignees", "value": "Codertocat", "short": True},
                    {"title": "Labels", "value": "bug", "short": True},
                    {
                        "title": "Milestone",
                        "value": "<https://github.com/Codertocat/Hello-World/milestone/1|v1.0>",
                        "short": True,
                    },
                ],
                "footer": REPO,
                "footer_icon": "https://github.githubassets.com/favicon.ico",
                "ts": 1557933618,
                "mrkdwn_in": ["pretext", "text", "fields"],
            }
        ],
    }


def test_an_issue_is_closed_with_its_reason_in_one_line() -> None:
    document = payload("issues.opened")
    document["action"] = "closed"
    document["issue"] |= {"state": "closed", "state_reason": "not_planned", "closed_at": "2019-05-15T15:20:21Z"}
    attachment = shown("github.issues.closed", document)
    assert attachment["pretext"] == f"Issue closed as not planned by {WHO}"
    assert attachment["color"] == "#cb2431"
    assert "text" not in attachment
    assert "fields" not in attachment


def test_a_pull_request_is_merged() -> None:
    document = payload("pull_request.closed")
    document["pull_request"] |= {"merged": True, "merged_at": "2019-05-15T15:21:00Z"}
    attachment = shown("github.pull_request.closed", document)
    assert attachment["pretext"] == f"Pull request merged by {WHO}"
    assert attachment["title"] == "#2 Update the README with new information."
    assert attachment["title_link"] == "https://github.com/Codertocat/Hello-World/pull/2"
    assert attachment["color"] == "#6f42c1"
    assert attachment["ts"] == 1557933660


def test_a_pull_request_is_closed_without_a_merge() -> None:
    attachment = shown("github.pull_request.closed", payload("pull_request.closed"))
    assert (attachment["pretext"], attachment["color"]) == (f"Pull request closed by {WHO}", "#cb2431")


def pushed(messages: list[str], **changes: object) -> dict[str, Any]:
    document = payload("push.default")
    commit = document["commits"][0]
    commits = [
        commit | {"id": f"{n:08x}" + "0" * 32, "url": f"https://github.com/c/{n}", "message": text}
        for n, text in enumerate(messages)
    ]
    return document | {"created": False, "forced": False, "commits": commits} | changes


def test_a_push_of_three_commits() -> None:
    attachment = shown("github.push", pushed(["Add a\n\nand say why", "Fix <b> & co", "c"]))
    compare = "https://github.com/Codertocat/Hello-World/commit/6113728f27ae82c7b1a177c8d03f9e96e0adf246"
    assert attachment["pretext"] == f"<{compare}|3 new commits> pushed to `master` by {WHO}"
    assert attachment["text"] == (
        "<https://github.com/c/0|`00000000`> - Add a\n"
        "<https://github.com/c/1|`00000001`> - Fix &lt;b&gt; &amp; co\n"
        "<https://github.com/c/2|`00000002`> - c"
    )
    assert attachment["fallback"] == "[Codertocat/Hello-World] 3 new commits pushed to master by Codertocat"


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (pushed(["a"]), "1 new commit pushed to master by Codertocat"),
        (pushed(["a"], forced=True), "1 new commit force-pushed to master by Codertocat"),
        (pushed([], forced=True), "No new commits force-pushed to master by Codertocat"),
        (pushed(["a"], created=True), "1 new commit pushed to new branch master by Codertocat"),
        (pushed(["a"], ref="refs/tags/v1"), "1 new commit pushed to tag v1 by Codertocat"),
        (pushed([], forced=True, deleted=True), "Branch master deleted by Codertocat"),
    ],
)
def test_other_pushes(document: dict[str, Any], said: str) -> None:
    assert shown("github.push", document)["fallback"] == f"[Codertocat/Hello-World] {said}"


def test_a_push_of_many_commits_lists_ten() -> None:
    lines = shown("github.push", pushed([f"change {n}" for n in range(25)]))["text"].split("\n")
    assert len(lines) == 11
    assert lines[-1].endswith("|and 15 more>")


@pytest.mark.parametrize("changes", [{}, {"created": True}, {"deleted": True}])
def test_a_push_without_commits_is_no_message(changes: dict[str, bool]) -> None:
    assert render(message("github.push", pushed([], **changes))) is None


@pytest.mark.parametrize(
    ("state", "said", "colour"),
    [
        ("approved", "approved", "#36a64f"),
        ("changes_requested", "requested changes on", "#cb2431"),
        ("commented", "commented on", "#24292f"),
    ],
)
def test_a_review(state: str, said: str, colour: str) -> None:
    document = payload("pull_request_review.submitted")
    document["review"] |= {"state": state, "body": "**Good**, see [this](https://example.com/a)"}
    attachment = shown("github.pull_request_review.submitted", document)
    assert attachment["pretext"] == f"{WHO} {said} {WHO}'s pull request"
    assert attachment["title"] == "#2 Update the README with new information."
    assert attachment["text"] == "*Good*, see this (https://example.com/a)"
    assert attachment["color"] == colour


def test_a_comment_review_without_text_is_no_message() -> None:
    assert render(message("github.pull_request_review.submitted", payload("pull_request_review.submitted"))) is None


def test_a_release() -> None:
    document = payload("release.published")
    document["release"] |= {"name": "First", "body": "## Changes\n- one\n- [x] two"}
    attachment = shown("github.release.published", document)
    assert attachment["pretext"] == f"Release published by {WHO}"
    assert attachment["title"] == "[Codertocat/Hello-World] Release - First (0.0.1)"
    assert attachment["text"] == "*Changes*\n• one\n☑ two"


def test_a_failed_workflow() -> None:
    document = payload("workflow_run.completed")
    document["workflow_run"] |= {
        "conclusion": "failure",
        "event": "push",
        "name": "CI",
        "run_number": 7,
        "head_branch": "main",
        "run_started_at": "2024-01-01T00:00:00Z",
        "updated_at": "2024-01-01T00:03:12Z",
    }
    sha = document["workflow_run"]["head_sha"]
    attachment = shown("github.workflow_run.completed", document)
    assert attachment["pretext"].startswith("Workflow run failed, triggered via `push` by <https://github.com/")
    assert attachment["title"] == "CI #7"
    assert attachment["color"] == "#cb2431"
    assert fields(attachment) == {
        "Status": "failure",
        "Commit": f"<{document['repository']['html_url']}/commit/{sha}|`{sha[:7]}`> (main)",
        "Duration": "3m 12s",
    }


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("issue_comment.created", "New comment by Codertocat on issue: #1 Spelling error in the README file"),
        ("commit_comment.created", "New comment by Codertocat on commit 6113728f"),
        ("deployment.created", "Deployment to production started by Codertocat"),
        ("deployment_status.created", "Deployment to production succeeded, by Codertocat"),
        ("check_run.completed", "Check failed for commit ec26c3e: Octocoders-linter"),
        ("status.default", "default succeeded for commit 6113728"),
        ("create.default", "Tag simple-tag created by Codertocat"),
        ("delete.default", "Tag simple-tag deleted by Codertocat"),
        ("star.created", "Codertocat/Hello-World starred by Codertocat"),
        ("issues.labeled", "Issue labeled bug by Codertocat: #1 Spelling error in the README file"),
    ],
)
def test_one_line_says_it(name: str, said: str) -> None:
    assert shown(event_of(name), payload(name))["fallback"] == f"[Codertocat/Hello-World] {said}"


def test_an_event_that_the_file_does_not_word_is_told_in_one_line() -> None:
    document = payload("repository.renamed") | {"action": "moved_house", "comet": {"name": "Halley"}}
    attachment = shown("github.comet.moved_house", document)
    assert attachment["pretext"] == f"Comet moved house by {WHO}"
    assert attachment["title"] == "Halley"


def test_an_event_of_an_application_shows_its_payload() -> None:
    attachment = shown("invoice.paid", {"id": "inv_1", "amount": 1200, "note": "<!channel> ``` & more"})
    assert attachment["pretext"] == "`invoice.paid`"
    assert attachment["fallback"] == "invoice.paid"
    assert attachment["text"] == (
        '```\n{\n  "id": "inv_1",\n  "amount": 1200,\n  "note": "&lt;!channel&gt; \'\'\' &amp; more"\n}\n```'
    )


def test_a_payload_that_does_not_fit_its_event_is_told_in_general() -> None:
    assert shown("github.issues.opened", {"hello": "world"})["pretext"] == "Issues"
    assert shown("github.issues.opened", ["hello"])["pretext"] == "Issues"


def test_a_payload_that_is_not_json_is_shown_as_text() -> None:
    attachment = shown("github.issues.opened", b"<xml>\xff</xml>")
    assert attachment["pretext"] == "`github.issues.opened`"
    assert attachment["text"] == "```\n&lt;xml&gt;�&lt;/xml&gt;\n```"


def test_an_empty_payload_shows_the_event_type() -> None:
    assert "text" not in shown("invoice.paid", b"")


def test_a_payload_in_a_form() -> None:
    body = (
        b"payload="
        + json.dumps(payload("issues.opened")).replace("%", "%25").replace("&", "%26").replace("+", "%2B").encode()
    )
    made = render(message("github.issues.opened", body, "application/x-www-form-urlencoded"))
    assert made == render(message("github.issues.opened", payload("issues.opened")))


# Nothing in a payload writes markup

HOSTILE = [
    "<!channel>",
    "<!here|x>",
    "<@U012AB3CD>",
    "<#C123>",
    "<https://evil.example|https://bank.example>",
    "https://evil.example/<!channel>|ok>",
    "https://evil.example|<!everyone>",
    "&lt;!channel&gt;",
    "javascript:alert(1)",
    "[x](https://evil.example|<!here>)",
    "[https://bank.example](https://evil.example)",
    "**<!here>**",
    "# <@U1>",
    "```<!here>```",
    "`|><",
    "<!--<!channel>",
    "{{ 7*7 }}{% raw %}",
    "https://a\u202eb\x00\n",
    "&&&&&<<<<>>>>",
    "hthttps://tps://bank.example",
]
hostile = st.lists(st.sampled_from(HOSTILE) | st.text("<>&|!@#`*_[]()\n\0ab/:.{}%https", max_size=12), max_size=4).map(
    "".join
)
UNIT = re.compile(r"<(https?://[^<>|\s]+)\|([^<>|]*)>|&(?:amp|lt|gt);")


def texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for member in value.values():
            yield from texts(member)
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)


def replaced(value: object, texts: Iterator[str]) -> Any:
    """A document with every text replaced."""
    if isinstance(value, str):
        return next(texts)
    if isinstance(value, dict):
        return {key: replaced(member, texts) for key, member in value.items()}
    if isinstance(value, list):
        return [replaced(item, texts) for item in value]
    return value


def assert_harmless(document: dict[str, Any]) -> None:
    [attachment] = document.get("attachments", [{}])
    target = attachment.pop("title_link", "https://x/")
    assert re.fullmatch(r"https?://[^\s<>|]+", target), target
    for text in texts(document):
        for link in UNIT.finditer(text):
            assert "://" not in (link[2] or "") or not re.search("https?://", link[2]), text
        rest = UNIT.sub("", text)
        assert not re.search("[<>&\x00\u202e]", rest), text


@settings(max_examples=80, suppress_health_check=[HealthCheck.data_too_large, HealthCheck.too_slow])
@given(name=st.sampled_from(NAMES), words=st.lists(hostile, min_size=1, max_size=6))
def test_no_text_of_a_payload_becomes_markup(name: str, words: list[str]) -> None:
    document = payload(name)
    count = sum(1 for _ in texts(document))
    made = render(message(event_of(name), replaced(document, iter((words * (count // len(words) + 1))[:count]))))
    if made is not None:
        assert_harmless(made)


@settings(max_examples=50)
@given(name=st.sampled_from(NAMES), word=hostile, data=st.data())
def test_one_hostile_text_among_real_ones(name: str, word: str, data: st.DataObject) -> None:
    real = list(texts(payload(name)))
    real[data.draw(st.integers(0, len(real) - 1))] = word
    made = render(message(event_of(name), replaced(payload(name), iter(real))))
    if made is not None:
        assert_harmless(made)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | hostile,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=80)
@given(name=st.sampled_from(NAMES), data=st.data())
def test_a_member_of_another_type_never_breaks_a_message(name: str, data: st.DataObject) -> None:
    document = payload(name)
    where: Any = document
    key = data.draw(st.sampled_from(sorted(where)))
    while isinstance(where[key], dict) and where[key] and data.draw(st.booleans()):
        where = where[key]
        key = data.draw(st.sampled_from(sorted(where)))
    where[key] = data.draw(json_values)
    made = render(message(event_of(name), document))
    if made is not None:
        assert made["attachments"]
        assert_harmless(made)


@settings(max_examples=60)
@given(document=json_values, event=st.sampled_from(["invoice.paid", "github", "github.push", "a.b.<!here>"]))
def test_any_json_is_a_message_or_none(document: object, event: str) -> None:
    made = render(message(event, document))
    if made is not None:
        assert_harmless(made)


def test_the_payload_may_not_take_the_name_of_a_filter_or_value() -> None:
    document = payload("issues.opened") | {"link": "x", "who": "<!here>", "self": 1, "payload": 2, "markdown": 3}
    assert shown("github.issues.opened", document)["pretext"] == f"Issue opened by {WHO}"
    del document["sender"]
    assert "here" not in shown("github.issues.opened", document)["pretext"]


# Limits


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("filler", ["&<", "[a](https://e.x)é\n"])
def test_long_texts_stay_within_the_limits(name: str, filler: str) -> None:
    document = replaced(payload(name), iter([filler * 5_000] * 2_000))
    if "commits" in document:
        document["commits"] *= 300
    made = render(message(event_of(name), document))
    if made is None:
        return
    assert_harmless(made)
    [attachment] = made["attachments"]  # type: ignore[misc]  # JSON
    assert len(attachment.get("text", "")) < 4_000
    assert len(attachment.get("footer", "")) <= 300
    assert len(attachment.get("fields", [])) <= 10
    assert all(len(value) <= 2_000 for value in fields(attachment).values())
    assert len(json.dumps(made)) < 40_000


@given(
    st.recursive(
        st.text() | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_a_value_as_json_is_the_beginning_of_all_of_it(value: object) -> None:
    whole = json.dumps(value, ensure_ascii=False, indent=2)
    assert Writer(SLACK).json(value, 40) == Writer(SLACK).block(whole, 40)


@pytest.mark.parametrize(
    "value", ["<b>" * 1_000_000, [1] * 1_000_000, {"a": "b" * 3_000_000}], ids=["text", "list", "object"]
)
def test_of_a_huge_value_only_the_beginning_is_worked_on(value: object) -> None:
    writer = Writer(SLACK)
    tracemalloc.start()
    try:
        for write in (writer.escaped, writer.cut, writer.line, writer.bold, writer.code, writer.markdown):
            assert len(str(write(value))) < 100_000
        if not isinstance(value, str):
            assert len(writer.json(value).text) < 3_000
        assert tracemalloc.get_traced_memory()[1] < 15_000_000
    finally:
        tracemalloc.stop()


COMMIT = {"id": "c" * 40, "message": "m" * 1_000, "url": "https://github.com/a/b/commit/c"}


def test_of_a_huge_payload_the_members_that_fit_are_shown() -> None:
    document = payload("push.default") | {"commits": [COMMIT] * 3_000}
    assert shown("github.push", document)["pretext"] == f"Push by {WHO}"
    form = message(
        "github.push", b"payload=" + quote(json.dumps(document)).encode(), "application/x-www-form-urlencoded"
    )
    assert render(form) == render(message("github.push", document))
    small = payload("push.default") | {"commits": [COMMIT] * 1_000}
    assert "1000 new commits" in shown("github.push", small)["pretext"]


def test_a_huge_payload_of_an_application_shows_its_beginning() -> None:
    assert '"b": 1' in shown("app.event", {"a": "x" * 3_000_000, "b": 1})["text"]
    assert "[1, 1, 1" in shown("app.event", [1] * 1_000_000)["text"]


def test_a_push_that_lacks_a_part_is_not_called_a_deletion() -> None:
    document = payload("push.default") | {"commits": [COMMIT]}
    del document["created"]
    assert shown("github.push", document)["pretext"] == f"Push by {WHO}"


def test_limits_apply_along_paths() -> None:
    document = {"a": [{"b": "xxxx", "c": [1, 2, 3]}] * 3, "b": "xxxx"}
    assert fitted(document, {"a": 2, "a.b": 3, "a.c": 1}, SLACK) == {
        "a": [{"b": "xx…", "c": [1]}] * 2,
        "b": "xxxx",
    }


def test_empty_members_are_left_out() -> None:
    assert without_empty({"a": "", "b": None, "c": [], "d": {"e": ""}, "f": 0, "g": False}) == {"f": 0, "g": False}


@given(text=st.text("a&<>\U0001f600", max_size=40), size=st.integers(1, 60))
def test_a_cut_text_fits_when_it_is_escaped(text: str, size: int) -> None:
    short = cut(SLACK, text, size)
    escaped = Writer(SLACK).escaped(short, 1_000)
    assert len(escaped) <= max(size, 1)
    assert short == text or text.startswith(short.removesuffix("…"))
    assert short == text or len(Writer(SLACK).escaped(text, 1_000)) > size


@given(parts=st.lists(st.sampled_from(["&amp;", "<https://a.b|c d>", "x", "\n"]), max_size=12), size=st.integers(1, 90))
def test_markup_is_never_cut_inside_a_unit(parts: list[str], size: int) -> None:
    short = shortened(SLACK, "".join(parts), size)
    assert len(short) <= max(size, 1)
    if short != "".join(parts):
        kept = short.removesuffix("…")
        assert any("".join(parts[:n]) == kept for n in range(len(parts) + 1))


# Filters


def test_links() -> None:
    link = Writer(SLACK).link
    assert link("https://a.b/?x=1&y=<|>", "a|b & <c>").text == "<https://a.b/?x=1&amp;y=%3C%7C%3E|a¦b &amp; &lt;c&gt;>"
    assert link("https://a.b/", "see https://c.d/").text == "<https://a.b/|see c.d/>"
    assert link("https://a.b/", "hthttps://tps://c.d/").text == "<https://a.b/|c.d/>"
    assert link("https://a.b/", "").text == "<https://a.b/|a.b/>"
    assert link("https://a.b/", Writer(SLACK).code("x<y")).text == "<https://a.b/|`x&lt;y`>"
    for wrong in ("javascript:x", "ftp://a.b", "https://", "https://u@a.b/", "https://a b", None, 7, "https://a\\@b"):
        assert link(wrong, "x&y").text == "x&amp;y"


@given(text=st.text())
def test_a_safe_url_has_no_delimiters(text: str) -> None:
    assert not set("<>| \n") & set(safe_url("https://example.com/" + text))


def test_markdown() -> None:
    source = (
        "<!-- please fill in -->\r\n# Title `x`\n\n\n\nSome **bold** and __more__ & <b>\n"
        "* a\n  - [ ] b\n![shot](https://i.x/p.png)\n```python\n**raw** <!here>\n```\n[https://a.b](https://c.d)"
    )
    assert Writer(SLACK).markdown(source).text == (
        "*Title `x`*\n\nSome *bold* and *more* &amp; &lt;b&gt;\n"
        "• a\n  ☐ b\nshot (https://i.x/p.png)\n```\n**raw** &lt;!here&gt;\n```\nhttps://a.b (https://c.d)"
    )


@pytest.mark.parametrize(
    ("start", "end", "said"),
    [
        ("2024-01-01T00:00:00Z", "2024-01-01T00:00:45Z", "45s"),
        ("2024-01-01T00:00:00Z", "2024-01-01T02:03:59.9Z", "2h 3m"),
        ("2024-01-02T00:00:00Z", "2024-01-01T00:00:00Z", ""),
        (None, "2024-01-01T00:00:00Z", ""),
    ],
)
def test_spans(start: object, end: object, said: str) -> None:
    assert span(start, end) == said


def test_controls_and_marks_of_direction_go() -> None:
    assert clean("a\x00b\x1b[1m\u202ec\r\nd\re\tf\ufeff") == "ab[1mc\nd\ne\tf"


# Files

ROW = '[[message]]\nevent = "*"\nheadline = "{{ x }}"\n'


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("title = ", "Invalid value"),
        ('title = "x"', "message"),
        ('title = "x"\ntypo = 1\n' + ROW, "typo"),
        ('title = "x"\n' + ROW.replace("{{ x }}", "{{ x"), "0.headline"),
        ('title = "x"\n' + ROW.replace("{{ x }}", "{{ x | nothing }}"), "0.headline"),
        ('title = "x"\n[values]\nv = "a b"\n' + ROW, "values.v"),
        ('title = "x"\n[colours]\nred = "red"\n' + ROW, "#rrggbb"),
        ('title = "x"\n' + ROW + 'when = "a b"\n', "0.when"),
    ],
)
def test_a_wrong_file_says_what_is_wrong(text: str, wrong: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(wrong)):
        Templates("mine", text, SLACK)


def test_a_provider_and_another_service_need_no_code() -> None:
    service = Chat(
        "plain",
        'title = "Plain"\n'
        'message = \'{"text": {{ headline }}, "lines": [{% for f in fields %}{{ f.name ~ "=" ~ f.value }}'
        "{% if not loop.last %},{% endif %}{% endfor %}]}'\n"
        "[marks]\n"
        r'escape = [["\\", "\\\\"], ["*", "\\*"], ["[", "\\["], ["]", "\\]"]]' + "\n"
        'link = "[{label}]({url})"\nbold = "**{text}**"\ncode = "`{text}`"\nblock = "```\\n{text}\\n```"\n'
        'percent = "()<>"\n[limits]\ntext = 60\n',
    )
    provider = Templates(
        "shop",
        'title = "Shop"\n[[message]]\nevent = "order.*"\nwhen = "total > 0"\n'
        'headline = "{{ url | link(name) }} for {{ buyer | bold }}"\n'
        'fields = [{ name = "Total", value = "{{ total }}" }, { name = "Note", value = "{{ note }}" }]\n'
        '[[message]]\nevent = "order.paid"\nskip = true\n',
        service.marks,
    )

    def card(document: object) -> Any:
        return provider.render("order.paid", document, event_type="shop.order.paid", now=NOW)

    order = {"url": "https://s.x/(1)", "name": "[a]*", "buyer": "B", "total": 3}
    assert service.document(card(order)) == {
        "text": r"[\[a\]\*](https://s.x/%281%29) for **B**",
        "lines": ["Total=3"],
    }
    assert card(order | {"total": 0}) is None
    with pytest.raises(LookupError):
        provider.render("refund", order, event_type="shop.refund", now=NOW)


def test_a_member_named_self_is_reached_through_the_payload() -> None:
    text = 'title = "X"\n[[message]]\nevent = "*"\nheadline = "{{ payload.self }}"'
    card = Templates("x", text, SLACK).render("e", {"self": "me"}, event_type="x.e", now=NOW)
    assert card is not None
    assert card.headline == "me"


def test_a_template_that_never_ends_is_stopped() -> None:
    text = '[[message]]\nevent = "*"\nheadline = "a{% for i in range(9000) %}{% for j in range(9000) %}x{% endfor %}{% endfor %}"'
    endless = Templates("mine", f'title = "x"\n{text}\n', SLACK)
    with pytest.raises(LookupError):
        endless.render("a", {}, event_type="mine.a", now=NOW)


def test_markup_marked_safe_or_captured_is_escaped_all_the_same() -> None:
    text = (
        'title = "x"\n[[message]]\nevent = "*"\n'
        'headline = "{% set y %}{{ x }}{% endset %}{{ x | safe }}{{ x ~ 1 }}{{ y }}"\n'
    )
    made = Templates("mine", text, SLACK).render("a", {"x": "<!here>"}, event_type="mine.a", now=NOW)
    assert made is not None
    assert "<" not in made.headline


@pytest.mark.parametrize("name", NAMES)
def test_every_shipped_payload_is_worded_without_a_gap(name: str) -> None:
    made = render(message(event_of(name), payload(name)))
    if name in ("pull_request_review.submitted",):
        assert made is None
        return
    attachment = shown(event_of(name), payload(name))
    assert "undefined" not in json.dumps(attachment)
    assert "None" not in attachment["pretext"]
    assert not re.search(r"\b(by|on|to|for)\s*$", attachment["fallback"])


def test_marks_are_checked() -> None:
    with pytest.raises(ConfigurationError, match=r"marks\.unit"):
        Chat(
            "x",
            'title = "x"\nmessage = "{}"\n[marks]\nescape=[]\nlink=""\nbold=""\ncode=""\nblock=""\nunit="("\n',
        )
    assert Marks(escape=(), link="", bold="", code="", block="").unit == "."
