"""A pipeline of cheap steps that behave as a file of the run folder tells them."""

from kfp import dsl


@dsl.component(base_image="python", install_kfp_package=False)
def validate_data(run_id: str, config: str) -> str:
    import time
    from pathlib import Path

    from boothline import settings
    from boothline.progress import Event, Progress

    run_dir = settings.current().run_dir
    Path(run_dir, "received.json").write_text(config, encoding="utf-8")
    progress = Progress("validate_data", run_dir=run_dir)
    progress.emit(Event(time=time.time(), step="validate_data", kind="started"))
    progress.emit(Event(time=time.time(), step="validate_data", kind="done", manifest="m"))
    return f"dataset of '{run_id}'"


@dsl.component(base_image="python", install_kfp_package=False)
def generate_prior(run_id: str, config: str, shard: int) -> str:
    import time

    from boothline import settings
    from boothline.progress import Event, Progress

    progress = Progress("generate_prior", shard=shard, run_dir=settings.current().run_dir)
    progress.emit(Event(time=time.time(), step="generate_prior", shard=shard, kind="started"))
    progress.update(4, 4, unit="images")
    progress.emit(
        Event(time=time.time(), step="generate_prior", shard=shard, kind="done", reused=True)
    )
    return f"prior {shard}"


@dsl.component(base_image="python", install_kfp_package=False)
def train(run_id: str, config: str, dataset: str, priors: list) -> str:
    import os
    import signal
    import sys
    import time
    from pathlib import Path

    from boothline import settings
    from boothline.progress import Event, Progress

    run_dir = Path(settings.current().run_dir)
    behaviour = (run_dir / "behaviour").read_text()
    progress = Progress("train", run_dir=run_dir, min_interval_seconds=0)
    sys.stdout.write(f"trains on {dataset} and {priors}\n")
    progress.emit(Event(time=time.time(), step="train", kind="started"))

    def commit(number, frame):
        (run_dir / "committed").write_text("state")
        sys.exit(143)

    signal.signal(signal.SIGTERM, signal.SIG_IGN if behaviour == "stubborn" else commit)
    progress.update(1, 3, unit="steps", note="loss 0.5")
    (run_dir / "training.pid").write_text(str(os.getpid()))
    while behaviour in ("hang", "stubborn"):
        time.sleep(0.05)
    if behaviour == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if behaviour == "fail":
        progress.emit(
            Event(
                time=time.time(),
                step="train",
                kind="failed",
                error="The loss became NaN.",
                remedy="Lower training.learning_rate.",
                exit_code=1,
            )
        )
        raise RuntimeError("loss")
    progress.emit(Event(time=time.time(), step="train", kind="done", manifest="t"))
    return "promoted"


@dsl.component(base_image="python", install_kfp_package=False)
def batch_infer(run_id: str, config: str, model: str, shard: int) -> str:
    import time

    from boothline import settings
    from boothline.progress import Event, Progress

    progress = Progress("batch_infer", shard=shard, run_dir=settings.current().run_dir)
    progress.emit(Event(time=time.time(), step="batch_infer", shard=shard, kind="started"))
    progress.emit(Event(time=time.time(), step="batch_infer", shard=shard, kind="done"))
    return "images"


@dsl.component(base_image="python", install_kfp_package=False)
def finish_run(run_id: str, config: str, page: dsl.Output[dsl.HTML]) -> str:
    import time
    from pathlib import Path

    from boothline import settings
    from boothline.progress import Event, Progress

    progress = Progress("finish_run", run_dir=settings.current().run_dir)
    progress.emit(Event(time=time.time(), step="finish_run", kind="started"))
    progress.emit(Event(time=time.time(), step="finish_run", kind="done"))
    Path(page.path).write_text("<p>report</p>")
    return "report"


@dsl.pipeline(name="cheap")
def cheap(
    run_id: str,
    config: str,
    pictures: str,
    subject: str,
    class_noun: str,
    base_model: str,
    method: str,
    steps: int,
    learning_rate: float,
    seed: int,
) -> None:
    with dsl.ExitHandler(finish_run(run_id=run_id, config=config)):
        data = validate_data(run_id=run_id, config=config)
        with dsl.ParallelFor([0, 1]) as shard:
            prior = generate_prior(run_id=run_id, config=config, shard=shard).after(data)
        model = train(
            run_id=run_id,
            config=config,
            dataset=data.output,
            priors=dsl.Collected(prior.output),
        )
        with dsl.If(model.output == "promoted"), dsl.ParallelFor([0, 1]) as shard:
            batch_infer(run_id=run_id, config=config, model=model.output, shard=shard)
