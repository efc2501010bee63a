"""Names of the container images that the components run in."""

import boothline

TOOLS = f"boothline/tools:{boothline.__version__}"
TORCH = f"boothline/torch:{boothline.__version__}"
