"""Write stories for small children from templates: a stand-in where TinyStories cannot be fetched.

    python benchmarks/stories.py --megabytes 8 --to stories.txt

The same seed gives the same stories. A model learns the templates, far better than real stories:
losses on this text say nothing about TinyStories.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))

from story_templates import write_stories


def main() -> int:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=float, default=8.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--to", type=Path, default=Path("stories.txt"))
    arguments = parser.parse_args()
    write_stories(arguments.to, int(arguments.megabytes * 1e6), arguments.seed)
    print(arguments.to)
    return 0


if __name__ == "__main__":
    sys.exit(main())
