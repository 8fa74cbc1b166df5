"""The corpus of the shipped storyteller: `python -m tests.benchmarks.tales prepare FOLDER`.

`prepare` reads `tales.txt.gz` (`--text FILE`: another file), repairs errors that its cleaning missed, and writes
`train.txt` and `tuning.txt`, the last 2% of the stories, by which recipes and decoders are selected. The held-out books
are a separate file; `prepare --held-out` repairs it in the same way, for `tdiff eval` only.

`ship RUN --decoding "DECODER OPTION=VALUE ..."` makes `checkpoints/tales` of a run: weights in 8 bits, a model card,
its rows in pyproject.toml and in the lookup. The card's figures come from files:

    tdiff eval RUN --data FOLDER/held-out.txt --json > eval.json
    python -m tests.benchmarks.reading judge FOLDER --model RUN --json judge.json
    python -m tests.benchmarks.reading count VOTES... --key key.json --json votes.json
    python -m tests.benchmarks.tales ship RUN --decoding ... --eval eval.json --judge judge.json --votes votes.json

`--default` makes it the model of `tdiff generate`, `tdiff watch` and `make demo`.

`pack RUN OUT` checks that a run's loss fell and copies its model and its log in files of at most 15 MB.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import re
from pathlib import Path

DATA = Path("../shared/data")
_FINISHED = re.compile(r"""(?:[.!?:;)]|--)["')]*$|["']$""")
_WRAPPED = range(40, 90)
"""Lengths of lines that may have been broken at the end of a printed line."""
_NOTES = re.compile(r"https?://|eBook|Gutenberg|\((?:changed|deleted)|\bMarchen von\b|\bCuentos\b|^\(?Adapted\b")
_MARKS = re.compile(r"\s*\((?:FN\s*\d+(?::[^)]*)?|\d{1,2}\.?)\)")
_LAST = 0.02


def unwrapped(lines: list[str]) -> list[str]:
    """Join the lines of a story that has the line breaks of a printed page; return other stories unchanged.

    A line continues in the next one if the next word would not have fitted on it, or if it ends in mid-sentence.
    """
    broken = [line for line in lines if len(line) in _WRAPPED and not _FINISHED.search(line)]
    if len(broken) < 4 or len(broken) < 0.2 * len(lines):
        return lines
    width = sorted(len(line) for line in broken)[int(len(broken) * 0.98)]
    paragraphs = [lines[0]]
    for before, line in itertools.pairwise(lines):
        full = len(before) + 1 + len(line.split(" ", 1)[0]) > width - 2
        if len(before) in _WRAPPED and (full or not _FINISHED.search(before)):
            paragraphs[-1] += " " + line
        else:
            paragraphs.append(line)
    return paragraphs


def requoted(paragraph: str) -> str:
    """Move opening quotation marks that touch the word before them to the word that they open."""
    parts = paragraph.split('"')
    if len(parts) % 2 == 0:  # an odd mark: speech that continues, or an error without a certain repair
        return paragraph
    for n in range(0, len(parts) - 1, 2):
        if parts[n] and not parts[n].endswith((" ", "-", "(", "'")) and parts[n + 1].startswith(" "):
            parts[n], parts[n + 1] = parts[n] + " ", parts[n + 1].lstrip()
    return '"'.join(parts)


def repaired(text: str) -> list[str]:
    """The stories with wrapped lines joined, and notes and headings removed."""
    stories = []
    for story in text.strip().split("\n\n"):
        paragraphs = []
        for paragraph in unwrapped(story.split("\n")):
            heading = len(paragraph) < 60 and not re.search(r"[.!?,:;\"'-]", paragraph)
            if _NOTES.search(paragraph) or heading:
                continue
            paragraphs.append(requoted(_MARKS.sub("", paragraph)).strip())
        if paragraphs:
            stories.append("\n".join(paragraphs))
    return stories


def prepare(folder: Path, text: Path, held_out: bool) -> None:
    """Repair the stories and write the files."""
    with gzip.open(text, "rt", encoding="utf-8") as file:
        stories = repaired(file.read())
    folder.mkdir(parents=True, exist_ok=True)
    cut = len(stories) - round(_LAST * len(stories))
    parts = {"held-out.txt": stories} if held_out else {"train.txt": stories[:cut], "tuning.txt": stories[cut:]}
    for name, part in parts.items():
        (folder / name).write_text("\n\n".join(part) + "\n", encoding="utf-8")
        print(f"{folder / name}: {len(part):,} stories, {sum(map(len, part)):,} characters")


def main() -> None:
    """Run the selected command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("prepare")
    command.add_argument("folder", type=Path)
    command.add_argument("--text", type=Path)
    command.add_argument("--held-out", action="store_true")
    command = commands.add_parser("ship")
    command.add_argument("model", help="a run")
    command.add_argument("--decoding", required=True, help="the model's own decoder with its options")
    command.add_argument("--eval", dest="evaluation", type=Path)
    command.add_argument("--judge", dest="judged", type=Path)
    command.add_argument("--votes", type=Path, action="append", default=[])
    command.add_argument("--default", action="store_true")
    command = commands.add_parser("pack")
    command.add_argument("run")
    command.add_argument("out", type=Path)
    options = parser.parse_args()
    if options.command == "pack":
        from tests.benchmarks.tales_pack import pack

        pack(options.run, options.out)
        return
    if options.command == "ship":
        from tests.benchmarks.tales_ship import ship  # which requires torch

        ship(options, Path())
        return
    name = "tales-held-out.txt.gz" if options.held_out else "tales.txt.gz"
    prepare(options.folder, options.text or DATA / name, options.held_out)


if __name__ == "__main__":
    main()
