"""One page that says why training stopped: what was measured (`study`), pictures, self-contained HTML (`page`)."""

from optcore.report.page import write
from optcore.report.study import Study, study

__all__ = ["Study", "study", "write"]
