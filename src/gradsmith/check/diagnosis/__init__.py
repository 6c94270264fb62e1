"""The names of mistakes: what each looks like in a gradient, beside the right one."""
