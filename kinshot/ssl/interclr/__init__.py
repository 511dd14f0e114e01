"""InterCLR's parts as pure functions: bank, clustering, maintenance, sampling, margins, and the step that joins them."""
