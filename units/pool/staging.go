package pool

import "time"

// Staging is how far the download of a model, or of an image, is.
type Staging struct {
	Ref   string    // what is downloaded; empty: the pool's model
	Bytes int64     // on disk
	Total int64     // of all files; 0: not known yet
	Rate  int64     // bytes a second; 0: not known
	File  string    // the one that is written; empty: not known
	Note  string    // why nothing happens until Until; empty: it goes on
	Until time.Time // the next attempt
}
