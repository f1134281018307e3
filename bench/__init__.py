"""How fast deployer is, beside the tools that people use instead: ratios taken side by side in one run."""
