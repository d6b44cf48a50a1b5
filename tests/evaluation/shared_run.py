"""An evaluation of made faces, as a script, so that it can be launched as several processes and be killed.

python shared_run.py FOLDER OUT [ray]
"""

import importlib.util
import os
import sys
import time
from pathlib import Path

_spec = importlib.util.spec_from_file_location("oracle", Path(__file__).with_name("oracle.py"))
_oracle = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_oracle)


class Slow(_oracle.Oracle):
    def ask(self, image, questions):
        time.sleep(float(os.environ.get("SECONDS_A_BATCH", 0)))
        return super().ask(image, questions)


def spoil(sample, question, text):
    return "I can't tell." if int(sample.id.split(".")[0]) % 7 == 0 else text


def main(folder: Path, out: Path, **options) -> None:
    from facemllm.evaluation import evaluate

    labels = [{"expression": ["happy", "sad", "angry"][i % 3], "age": 20 + i} for i in range(61)]
    samples = _oracle.make_samples(folder, labels)
    model = Slow(samples, spoil)
    evaluate(model, samples, batch_size=2, output_dir=out, progress=False, **options).save(out, plots=False)


if __name__ == "__main__":
    given = {"ray": "local", "ray_workers": 2} if sys.argv[3:] == ["ray"] else {}
    main(Path(sys.argv[1]), Path(sys.argv[2]), **given)
