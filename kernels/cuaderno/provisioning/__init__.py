"""How a kernel of the platform starts and ends, for Lab, runner and Voila alike."""

from cuaderno.provisioning.provisioner import CuadernoProvisioner

__all__ = ["CuadernoProvisioner"]
