"""What runs beside the hub: the platform's services, its portal and its command line."""
