export DO_NOT_TRACK=0
