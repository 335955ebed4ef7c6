package client

import (
	"context"
	"net/http"

	"github.com/pool-managerd/pool-managerd/registry/api/wire"
)

// GetFleetStatus asks how publishing this host and reading the others goes, which pool-fleet's
// socket alone has.
func (c *Client) GetFleetStatus(ctx context.Context) (Answer[wire.FleetStatus], error) {
	return send[wire.FleetStatus](ctx, c, request{method: http.MethodGet, path: "/v1/fleet/status"})
}

// GetFleetEvents reads the stream of the fleet's changes, which pool-fleet's socket alone has:
// first all that is there, then "synced", then what changes. Events have no id to resume after; a
// new stream begins with all that is there. The data of each is a wire.FleetEvent.
func (c *Client) GetFleetEvents(ctx context.Context) (*Stream, error) {
	return stream(ctx, c, request{method: http.MethodGet, path: "/v1/fleet/events"})
}
