"""`hybridbooth bench`: the family of methods, measured side by side."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from hybridbooth_core.errors import UserError


def add_to(commands) -> None:
    bench = commands.add_parser(
        "bench",
        help="measure HybridBooth and its family on the same creatures, prompts and noise",
        description="Searches each method's learning rate on tune creatures, then measures it on test creatures. Stop it at any time and "
        "start it again to go on. About an hour on two CPU cores; --quick tries every part in a minute and measures nothing.",
    )
    bench.add_argument("--quick", action="store_true", help="a trial of the machinery: 4 creatures, 2 prompts, few steps")
    bench.add_argument("--ablations", action="store_true", help="train and measure the variants of the paper's ablation table instead")
    bench.add_argument("--jobs", type=int, default=2, metavar="N", help="processes of one thread each (default 2)")
    bench.add_argument("--work", type=Path, default=Path("bench"), metavar="DIR", help="where finished units are kept (default bench)")
    bench.add_argument("--out", type=Path, metavar="FILE.json", help="the results (default DIR/family.json or DIR/ablations.json)")
    bench.add_argument("--methods", nargs="+", metavar="NAME", help="only these methods")
    bench.add_argument("--identities", type=int, metavar="N", help="test creatures (default 32)")
    bench.add_argument("--again", nargs="+", default=[], metavar="NAME", help='measure these methods anew; "costs" for the costs')
    bench.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    if options.jobs < 1:
        raise UserError(f"expected at least one job, found {options.jobs}")
    if options.out and not options.out.parent.is_dir():
        raise UserError(f"the folder {options.out.parent} does not exist; make it, or choose another place")
    return (_ablations if options.ablations else _family)(options)


def _family(options: argparse.Namespace) -> int:
    from .plan import QUICK, Plan
    from .run import run_bench, summary

    plan = QUICK if options.quick else Plan()
    if options.methods:
        plan = replace(plan, methods=tuple(options.methods))
    if options.identities is not None:
        plan = replace(plan, identities=options.identities)
    out = options.out or options.work / "family.json"
    print(summary(run_bench(plan, options.work, out, options.jobs, _command(options), options.again)))
    print(f"wrote {out}")
    return 0


def _ablations(options: argparse.Namespace) -> int:
    from .ablation_results import run_ablations, summary, train_variant, train_variant_briefly
    from .ablations import AblationPlan

    if options.methods or options.again:
        raise UserError("the ablations are of HybridBooth alone and know no methods; leave --methods and --again out")
    plan, trainer = (AblationPlan().quick, train_variant_briefly) if options.quick else (AblationPlan(), train_variant)
    if options.identities is not None:
        plan = replace(plan, drawing=replace(plan.drawing, identities=options.identities))
    out = options.out or options.work / "ablations.json"
    print(summary(run_ablations(plan, trainer, options.work, out, options.jobs, _command(options))))
    print(f"wrote {out}")
    return 0


def _command(options: argparse.Namespace) -> str:
    embeddings = ["hybridbooth bench", *(f"--{flag}" for flag in ("quick", "ablations") if getattr(options, flag))]
    embeddings += [f"--methods {' '.join(options.methods)}"] if options.methods else []
    embeddings += [f"--identities {options.identities}"] if options.identities is not None else []
    return " ".join(embeddings)
