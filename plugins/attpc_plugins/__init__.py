"""First-party plugins of attpc-ioc; each registers through the `attpc_ioc` entry-point group."""
