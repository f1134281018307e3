"""What is said to a machine: values in, shell text out, answers read. No I/O; every value is quoted."""
