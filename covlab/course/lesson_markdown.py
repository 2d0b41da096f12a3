"""What the editions add to the Markdown of a lesson: links to cited issues, and numbers aligned to the right."""

import re

# Code, a link, an address, HTML and a formula stay as they are.
_AS_IT_IS = (
    r"```.*?(?:```|\Z)|~~~.*?(?:~~~|\Z)|(?P<ticks>`+)(?!`).+?(?<!`)(?P=ticks)(?!`)"
    r"|!?\[[^\]]*\]\([^)]*\)|https?://\S+|<a\b.*?</a>|<[^>]*>|\$[^$]+\$"
)
_ISSUE = r"(?<![\w./@#-])[A-Za-z\d][A-Za-z\d-]*/[A-Za-z\d._-]+#\d+\b"
_CITED = re.compile(rf"(?P<kept>{_AS_IT_IS})|(?P<issue>{_ISSUE})", re.DOTALL)
_RULE = re.compile(r"\s*\|?(\s*:?-+:?\s*\|)+(\s*:?-+:?\s*)?")
_NUMBER = re.compile(r"[<>≤≥≈×]?\s?[-−+]?\d[\d.,]*([eE][-−+]?\d+)?(\s?(to|–|/|of)\s?[-−+]?\d[\d.,]*)?\s?[%×°]?")


def with_links(markdown: str) -> str:
    """Link each cited issue, `owner/repo#123`, to its page at GitHub, which also finds a pull request there."""

    def link(match: re.Match[str]) -> str:
        if match["kept"]:
            return match["kept"]
        repository, _, number = match["issue"].partition("#")
        return f"[{match['issue']}](https://github.com/{repository}/issues/{number})"

    return _CITED.sub(link, markdown)


def with_aligned_numbers(markdown: str) -> str:
    """Align each column of a table to the right if its cells are numbers, unless the lesson says how to align it."""
    lines = markdown.split("\n")
    for position, line in enumerate(lines):
        if position == 0 or not _RULE.fullmatch(line) or "|" not in lines[position - 1]:
            continue
        rules = _cells(line)
        body = []
        for row in lines[position + 1 :]:
            if "|" not in row:
                break
            body.append(_cells(row))
        if body and all(len(row) == len(rules) for row in body):
            columns = zip(*body, strict=True)
            aligned = [
                "---:" if set(rule) == {"-"} and all(map(_is_number, column)) else rule
                for rule, column in zip(rules, columns, strict=True)
            ]
            lines[position] = f"|{'|'.join(aligned)}|"
    return "\n".join(lines)


def _cells(row: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", row.strip().removeprefix("|").removesuffix("|"))]


def _is_number(cell: str) -> bool:
    text = re.sub(r"<[^>]*>|[*_`]|&nbsp;", " ", cell)
    return _NUMBER.fullmatch(" ".join(text.split())) is not None
