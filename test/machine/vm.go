package machine

import (
	"context"
	"errors"
)

func bootVM(ctx context.Context, cfg Config, root string) (backend, error) {
	return nil, errors.New("the VM backend is not built yet")
}

// BuildVM builds what a VM of the recipe boots from.
func BuildVM(ctx context.Context, r Recipe, log func(string)) error { return nil }
