#!/usr/bin/env python3
"""Writes prices.jsonl, the price book that is compiled in, from the PyPI package genai-prices.

    python3 src/pricing/book/refresh.py [VERSION]

Needs pip and the network. Review the difference, run the tests, and commit the result together with
the new VERSION below. The format is described in mod.rs beside this file.
"""

import decimal
import json
import pathlib
import re._parser as parser
import subprocess
import sys
import tempfile

VERSION = "0.2.3"
HERE = pathlib.Path(__file__).parent

# Price keys of the package, and what Tollgate calls them: the names of `Unit` in ../unit.rs.
UNITS = {
    "input_mtok": "input",
    "output_mtok": "output",
    "cache_read_mtok": "cache_read",
    "cache_write_mtok": "cache_write",
    "cache_write_1h_mtok": "cache_write_1h",
    "input_audio_mtok": "input_audio",
    "output_audio_mtok": "output_audio",
    "cache_audio_read_mtok": "cache_audio_read",
    "input_image_mtok": "input_image",
    "output_image_mtok": "output_image",
    "cache_image_read_mtok": "cache_image_read",
    "input_video_mtok": "input_video",
    "output_video_mtok": "output_video",
    "output_reasoning_mtok": "reasoning",
    "output_citation_mtok": "citation",
    "web_searches_kcount": "web_searches",
    "storage_searches_kcount": "file_searches",
    "requests_kcount": "requests",
}

# Price keys whose prices are for another number of things than Tollgate's: the name, and by how much
# to divide to get the price of a thousand.
SCALED = {
    "input_mchars": ("characters", decimal.Decimal(1000)),
    "audio_hours": ("audio_seconds", decimal.Decimal("3.6")),
    "input_audio_hours": ("audio_seconds", decimal.Decimal("3.6")),
}

# Things that are billed and that no usage report which Tollgate reads counts. A model with such a
# price is kept, so that its name cannot fall through to another entry, but it has no price.
UNCOUNTED = {
    "input_text_messages_kcount",
    "input_document_kpages",
    "input_annotated_document_kpages",
}

NOT_TTS = "^(?!.*-[tT][tT][sS](?:$|-))"  # the one look-ahead in use; everything else is expanded


def decimal_text(value):
    """At most nine decimals: finer ones are artefacts of floats (0.08333333333333334)."""
    rounded = value.quantize(decimal.Decimal("1e-9"), decimal.ROUND_HALF_EVEN)
    text = f"{rounded:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def price(value):
    if isinstance(value, decimal.Decimal):
        return decimal_text(value)
    tiers = [[tier.start, decimal_text(tier.price)] for tier in value.tiers]
    return {"base": decimal_text(value.base), "tiers": tiers}


def prices(model_price):
    found = {key: value for key, value in vars(model_price).items() if value is not None}
    unknown = set(found) - set(UNITS) - set(SCALED)
    if unknown & UNCOUNTED:
        return None
    if unknown:
        sys.exit(f"unknown price keys {unknown}: name them in UNITS or UNCOUNTED")
    named = {name: price(found[key]) for key, name in UNITS.items() if key in found}
    scaled = {name: price(found[key] / by) for key, (name, by) in SCALED.items() if key in found}
    return named | scaled


def condition(constraint):
    kind = type(constraint).__name__
    if constraint is None:
        return {}
    if kind == "StartDateConstraint":
        return {"from": constraint.start_date.isoformat()}
    if kind == "TimeOfDateConstraint":
        times = [constraint.start_time, constraint.end_time]
        if any(time.utcoffset() for time in times):
            sys.exit(f"a time of day that is not UTC: {times}")
        return {"daily": [time.strftime("%H:%M:%S") for time in times]}
    sys.exit(f"unknown constraint {kind}")


def expand(tree):
    """Every text that a parsed regular expression matches, with # for any digit."""
    texts = [""]
    for operation, argument in tree:
        match str(operation):
            case "LITERAL":
                parts = [chr(argument)]
            case "IN":
                parts = [one(item) for item in argument]
            case "MAX_REPEAT":
                low, high, inner = argument
                if high > 16:
                    sys.exit("an unbounded repetition in a model's pattern")
                inner = expand(inner)
                if len(inner) != 1 and high > 1:
                    sys.exit("a repetition of alternatives in a model's pattern")
                parts = [text * n for n in range(low, high + 1) for text in inner]
            case "SUBPATTERN":
                parts = expand(argument[3])
            case "BRANCH":
                parts = [text for branch in argument[1] for text in expand(branch)]
            case other:
                sys.exit(f"{other} in a model's pattern")
        texts = [text + part for text in texts for part in parts]
    return texts


def one(item):
    operation, argument = str(item[0]), item[1]
    if operation == "LITERAL":
        return chr(argument)
    if operation == "CATEGORY" and str(argument) == "CATEGORY_DIGIT":
        return "#"
    sys.exit(f"{item} in a model's pattern")


def shape(regex):
    """A regular expression as clauses that need no regular expressions."""
    if regex == NOT_TTS:
        return {"not": {"or": [{"ends_with": "-tts"}, {"contains": "-tts-"}]}}
    tree = list(parser.parse(regex))
    if "#" in regex or "*" in regex or not tree or str(tree[0][1]) != "AT_BEGINNING":
        sys.exit(f"a model's pattern that is not understood: {regex}")
    closed = str(tree[-1][1]) == "AT_END"
    texts = expand(tree[1:-1] if closed else tree[1:])
    kind = "shape" if closed else "starts_with_shape"
    clauses = [{kind: text.lower()} for text in texts]
    return clauses[0] if len(clauses) == 1 else {"or": clauses}


def clause(logic):
    kind = type(logic).__name__
    if kind == "ClauseOr":
        return {"or": [clause(part) for part in logic.or_]}
    if kind == "ClauseAnd":
        return {"and": [clause(part) for part in logic.and_]}
    if kind == "ClauseRegex":
        return shape(logic.regex)
    for name in ("equals", "starts_with", "ends_with", "contains"):
        if hasattr(logic, name):
            return {name: getattr(logic, name).lower()}
    sys.exit(f"unknown clause {kind}")


def model_line(model):
    line = {"id": model.id, "match": clause(model.match)}
    if model.context_window:
        line["window"] = model.context_window
    dated = model.prices if isinstance(model.prices, list) else None
    if dated is None:
        found = [({}, prices(model.prices))]
    else:
        found = [(condition(entry.constraint), prices(entry.prices)) for entry in dated]
    if any(usd is None for _, usd in found):
        return line | {"prices": []}
    line["prices"] = [when | {"usd": usd} for when, usd in found]
    variants = [
        {"when": variant.when} | condition(variant.constraint) | {"usd": prices(variant.prices)}
        for variant in model.price_variants or []
        if any(value is not None for value in vars(variant.prices).values())
    ]
    if variants:
        line["variants"] = variants
    return line


def main():
    version = sys.argv[1] if len(sys.argv) > 1 else VERSION
    with tempfile.TemporaryDirectory() as directory:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-warn-conflicts", "--target", directory]
        subprocess.run([*pip, f"genai-prices=={version}"], check=True)
        sys.path.insert(0, directory)
        from genai_prices.data import providers

        licence = next(pathlib.Path(directory).glob("genai_prices-*/licenses/LICENSE")).read_text()
    copyright_line = next(line for line in licence.splitlines() if line.startswith("Copyright"))
    lines = [{"book": "genai-prices", "version": version, "licence": f"MIT, {copyright_line}"}]
    for provider in providers:
        line = {"provider": provider.id}
        if provider.fallback_model_providers:
            line["fallback"] = provider.fallback_model_providers
        lines.append(line)
        lines += [model_line(model) for model in provider.models]
    with open(HERE / "prices.jsonl", "w", encoding="utf-8", newline="\n") as file:
        for line in lines:
            file.write(json.dumps(line, separators=(",", ":"), ensure_ascii=False) + "\n")
    (HERE / "LICENSE.genai-prices").write_text(licence, encoding="utf-8")
    print(f"{len(providers)} providers, {len(lines) - 1 - len(providers)} models")


if __name__ == "__main__":
    main()
