"""Parts of climate_vit.py: forcings and maps, networks, table and figures."""
