"""splink on the same records, set up as its documentation recommends for people and with what Polish records have.

It gets every field that our engine compares, cleaned as its guides ask: names and addresses folded by our own folding,
telephone numbers normalised, fill-ins for PESEL left out. It trains itself on the data (random sampling for u,
expectation maximisation for m) and uses term frequencies. Of the thresholds, with and without closing pairs to
clusters, the one with the best F1 is taken, which nobody could know without the truth.
"""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import duckdb
import pyarrow as pa
import splink.comparison_level_library as cll
import splink.comparison_library as cl
from splink import Linker, SettingsCreator, block_on
from splink.backends.duckdb import DuckDBAPI

from bench.linkage.measures import Pairwise, joined_pairs, merged, pairwise
from bench.linkage.records import Kept, Negative
from obieg.domain.linkage import LinkageMatcher, Prepared

THRESHOLDS = (0.5, 0.9, 0.95, 0.99, 0.999, 0.9999, 0.99999, 0.999999)


class Theirs(NamedTuple):
    threshold: float
    clustered: bool  # whether pairs were closed to clusters, or taken as they are
    measured: Pairwise
    wrong_merges: Counter[str]


def link(records: Sequence[Kept], negatives: Sequence[Negative]) -> Theirs:
    """Trains, predicts, takes the pairs and their clusters at each threshold and keeps what has the best F1."""
    logging.getLogger("splink").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _link(records, negatives)


def _link(records: Sequence[Kept], negatives: Sequence[Negative]) -> Theirs:
    connection = duckdb.connect()
    connection.execute("SET enable_progress_bar = false")
    api = DuckDBAPI(connection=connection)
    frame = api.register(_table(records))
    linker = Linker(frame, _settings(), log_level=None)
    training = linker.training
    training.estimate_probability_two_random_records_match(
        [block_on("pesel"), block_on("family", "given", "dob"), block_on("phone", "given")], recall=0.95
    )
    training.estimate_u_using_random_sampling(max_pairs=5e6, seed=1)
    for rule in (block_on("dob"), block_on("family", "given"), block_on("pesel")):
        training.estimate_parameters_using_expectation_maximisation(rule)
    predicted = linker.inference.predict(threshold_match_probability=min(THRESHOLDS))
    columns = "match_probability, unique_id_l, unique_id_r"
    pairs = predicted.as_duckdbpyrelation().project(columns).fetchall()
    found = []
    for threshold in THRESHOLDS:
        kept = [(left, right) for probability, left, right in pairs if probability >= threshold]
        clusters = _clusters(len(records), kept)
        found.append(Theirs(threshold, True, pairwise(records, clusters), merged(negatives, records, clusters)))
        found.append(Theirs(threshold, False, *joined_pairs(negatives, records, kept)))
    return max(found, key=lambda one: one.measured.f1)


def _settings() -> SettingsCreator:
    given_family = cl.ForenameSurnameComparison("given", "family", forename_surname_concat_col_name="name")
    pesel = cl.CustomComparison(
        output_column_name="pesel",
        comparison_levels=[
            cll.NullLevel("pesel"),
            cll.ExactMatchLevel("pesel"),
            cll.DamerauLevenshteinLevel("pesel", 1),
            cll.ElseLevel(),
        ],
    )
    address = cl.CustomComparison(
        output_column_name="address",
        comparison_levels=[
            cll.NullLevel("city"),
            cll.And(cll.ExactMatchLevel("city"), cll.ExactMatchLevel("street"), cll.ExactMatchLevel("house")),
            cll.And(cll.ExactMatchLevel("city"), cll.ExactMatchLevel("street")),
            cll.ExactMatchLevel("city").configure(tf_adjustment_column="city"),
            cll.ElseLevel(),
        ],
    )
    return SettingsCreator(
        link_type="dedupe_only",
        comparisons=[
            pesel,
            given_family,
            cl.DateOfBirthComparison("dob", input_is_string=True, datetime_format="%Y-%m-%d"),
            cl.ExactMatch("sex"),
            address,
            cl.ExactMatch("phone"),
            cl.ExactMatch("document"),
            cl.JaroWinklerAtThresholds("mother_family", [0.92]),
            cl.ExactMatch("mother"),
            cl.ExactMatch("birth_order"),
        ],
        blocking_rules_to_generate_predictions=[
            block_on("pesel"),
            block_on("family", "dob"),
            block_on("given", "dob"),
            block_on("document"),
            block_on("mother", "dob"),
            "l.family = r.given and l.dob = r.dob",
            block_on("family", "given", "substr(dob, 1, 4)"),
            block_on("phone", "given"),
        ],
        retain_matching_columns=False,
    )


def _table(records: Sequence[Kept]) -> pa.Table:
    matcher = LinkageMatcher()
    return pa.Table.from_pylist([_row(n, matcher.prepare(kept.record)) for n, kept in enumerate(records)], _SCHEMA)


_TEXTS = ("pesel", "given", "family", "name", "dob", "sex", "city", "street", "house", "phone", "document",
          "mother_family", "mother", "birth_order")  # fmt: skip
_SCHEMA = pa.schema([("unique_id", pa.int64()), *((name, pa.string()) for name in _TEXTS)])


def _row(number: int, prepared: Prepared) -> dict[str, object]:
    home = prepared.homes[0] if prepared.homes else None
    born = prepared.birth_date
    given = prepared.given[0] if prepared.given else None
    order = prepared.birth_order
    return {
        "unique_id": number,
        "pesel": prepared.pesel or prepared.wrong_pesel or None,
        "given": given,
        "family": prepared.family or None,
        "name": f"{given} {prepared.family}" if given and prepared.family else None,
        "dob": f"{born[:4]}-{born[4:6]}-{born[6:]}" if len(born) == 8 else None,
        "sex": prepared.sex or None,
        "city": home.city if home else None,
        "street": (home.street or "-") if home else None,
        "house": home.numbers[0] if home and home.numbers else None,
        "phone": min(prepared.telecoms, default=None),
        "document": min((d.value for d in prepared.documents), default=None),
        "mother_family": prepared.mother_family or None,
        "mother": prepared.mother.value if prepared.mother else None,
        "birth_order": str(order) if order else None,
    }


def _clusters(count: int, pairs: Iterable[tuple[int, int]]) -> list[int]:
    """Connected components, as splink's own clustering makes them."""
    root = list(range(count))

    def find(n: int) -> int:
        while root[n] != n:
            root[n] = root[root[n]]
            n = root[n]
        return n

    for left, right in pairs:
        root[find(left)] = find(right)
    return [find(n) for n in range(count)]
