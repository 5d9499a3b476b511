//! Objects from a cluster: validate, materialise, report.
