package client

import (
	"context"
	"net/http"
)

// GetFleetEvents reads the stream of the fleet's changes, which pool-fleet's socket alone has:
// first all that is there, then "synced", then what changes. Events have no id to resume after; a
// new stream begins with all that is there. The data of each is a wire.FleetEvent.
func (c *Client) GetFleetEvents(ctx context.Context) (*Stream, error) {
	return stream(ctx, c, request{method: http.MethodGet, path: "/v1/fleet/events"})
}
