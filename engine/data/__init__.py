"""What comes in: photos from strangers (:mod:`engine.data.intake`) and folders of paintings."""
