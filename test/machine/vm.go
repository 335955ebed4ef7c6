package machine

import (
	"context"
	"errors"
)

func bootVM(ctx context.Context, cfg Config, root string) (backend, error) {
	return nil, errors.New("the VM backend is not built yet")
}
