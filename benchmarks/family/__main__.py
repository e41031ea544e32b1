"""`python -m benchmarks.family`: all methods, or the variants of the probe, measured side by side."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hybridbooth_core.errors import UserError

from ..provenance import command_line


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.family",
        description="Search each method's learning rate on tune creatures, then measure it on test creatures. A stopped run continues "
        "where it stopped. About two hours on two CPU cores; --quick tries every part in a minute and measures nothing.",
    )
    made.add_argument("--quick", action="store_true", help="a trial: 4 creatures, 2 prompts, few steps")
    made.add_argument("--ablations", action="store_true", help="train and measure the variants of the paper's ablation table instead")
    made.add_argument("--jobs", type=int, default=2, metavar="N", help="processes of one thread each (default 2)")
    made.add_argument("--work", type=Path, default=Path("bench"), metavar="DIR", help="where finished units are kept (default bench)")
    made.add_argument("--out", type=Path, metavar="FILE.json", help="the results (default DIR/family.json or DIR/ablations.json)")
    made.add_argument("--methods", nargs="+", metavar="NAME", help="only these methods")
    made.add_argument("--identities", type=int, metavar="N", help="test creatures (default 32)")
    made.add_argument("--again", nargs="+", default=[], metavar="NAME", help='measure these methods a second time; "costs" for the costs')
    return made


def run(options: argparse.Namespace) -> None:
    """Raises UserError for what the user can mend."""
    if options.jobs < 1:
        raise UserError(f"expected at least one job, found {options.jobs}; give --jobs 1 or more")
    if options.out and not options.out.parent.is_dir():
        raise UserError(f"expected an existing folder for the results, found no {options.out.parent}; make it, or choose another place")
    (_ablations if options.ablations else _family)(options)


def _family(options: argparse.Namespace) -> None:
    from .plan import QUICK, Plan
    from .run import run_bench, summary

    plan = QUICK if options.quick else Plan()
    if options.methods:
        plan = replace(plan, methods=tuple(options.methods))
    if options.identities is not None:
        plan = replace(plan, identities=options.identities)
    out = options.out or options.work / "family.json"
    print(summary(run_bench(plan, options.work, out, options.jobs, command(options), options.again)))
    print(f"wrote {out}")


def _ablations(options: argparse.Namespace) -> None:
    from .ablation_results import run_ablations, summary, train_variant, train_variant_briefly
    from .ablations import AblationPlan

    if options.methods or options.again:
        raise UserError("the ablations are of HybridBooth alone and know no methods; leave --methods and --again out")
    plan, trainer = (AblationPlan().quick, train_variant_briefly) if options.quick else (AblationPlan(), train_variant)
    if options.identities is not None:
        plan = replace(plan, drawing=replace(plan.drawing, identities=options.identities))
    out = options.out or options.work / "ablations.json"
    print(summary(run_ablations(plan, trainer, options.work, out, options.jobs, command(options))))
    print(f"wrote {out}")


def command(options: argparse.Namespace) -> str:
    """The command as the results record it: what decides the numbers, without folders and jobs."""
    words = [f"--{flag}" for flag in ("quick", "ablations") if getattr(options, flag)]
    words += ["--methods", *options.methods] if options.methods else []
    words += ["--identities", str(options.identities)] if options.identities is not None else []
    return command_line("family", words)


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0; 2 for what the user can mend, said in one sentence."""
    options = parser().parse_args(argv)
    try:
        run(options)
    except UserError as error:
        print(f"benchmarks.family: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
