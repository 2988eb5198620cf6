"""How long does one image take through LeNet-5, called from Python, and how many pass at batch 128?

python bench/bench_infer.py
python bench/bench_infer.py --quick --filter @1:
"""

import argparse
import sys

from fastconv import benchmark

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    benchmark.add_arguments(parser, suite="infer")
    sys.exit(benchmark.run(parser.parse_args()))
