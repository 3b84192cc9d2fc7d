"""Danna-Sep: separates a music recording into drums, bass, other and vocals."""
