"""What a job runs on."""
