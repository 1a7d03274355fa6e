"""What belongs to climate_vit.py: forcings and maps, networks, table and figures."""
