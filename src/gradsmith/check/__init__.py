"""CHECK: one question a file about any custom gradient, and a diagnosis."""
