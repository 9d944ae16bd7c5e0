"""``i2 codes``: explains codes at the terminal, where an administrator meets them."""

from __future__ import annotations

from collections.abc import Iterable

import click

from i2core.api.codes import Code
from i2core.cli.output import document, json_option, table, wants_json
from i2core.config.words import Language, language

_HEADS = {
    "en": ("code", "level", "what", "cause", "next step"),
    "zh": ("代码", "级别", "说明", "原因", "下一步"),
}


@click.command(short_help="Explain the codes, and what to do about them.")
@click.argument("numbers", metavar="[CODE]...", type=int, nargs=-1)
@click.option("--markdown", is_flag=True, help="Print the table of docs/codes.md (or of its Chinese twin).")
@json_option
def codes(numbers: tuple[int, ...], markdown: bool) -> None:
    """Explain these codes: meaning, usual cause, next step. Without CODE, explain all of them.

    Numbers 3519 to 3591 are those of the manual; those from 3600 on are added by i2core.
    I2_LANG=zh shows the Chinese texts; --json has both.
    """
    known = {int(code) for code in Code}
    if unknown := [number for number in numbers if number not in known]:
        raise click.BadParameter(f"there is no code {unknown[0]}", param_hint="CODE")
    chosen = [Code(number) for number in numbers] or list(Code)
    if markdown:
        click.echo("\n".join(markdown_table(chosen, language())))
    elif wants_json():
        document(
            [{"code": int(c), "name": c.name, **c.text._asdict(), "level": c.text.level.value} for c in chosen],
        )
    elif numbers:
        for code in chosen:
            for head, cell in zip(_HEADS[language()], _row(code, language()), strict=True):
                click.echo(f"{head}: {cell}")
    else:
        table(_HEADS[language()], [_row(code, language()) for code in chosen])


def markdown_table(chosen: Iterable[Code], lang: Language) -> list[str]:
    """The lines of a Markdown table."""
    rows = [_HEADS[lang], ("---",) * 5, *(_row(code, lang) for code in chosen)]
    return ["| " + " | ".join(row) + " |" for row in rows]


def _row(code: Code, lang: Language) -> tuple[str, str, str, str, str]:
    text = code.text
    words = (text.zh, text.cause_zh, text.next_zh) if lang == "zh" else (text.en, text.cause_en, text.next_en)
    return (str(code.value), text.level.value, *words)
