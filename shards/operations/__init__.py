"""Operations on the containers of shards."""
