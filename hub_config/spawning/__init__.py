"""How servers start: spawner, environment, configuration; and the proxy's command."""
