package registry

import "context"

type correlationKey struct{}

// WithCorrelation returns a context for what a request of that id causes.
func WithCorrelation(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, correlationKey{}, id)
}

// Correlation returns the id of the request that a context is of, empty if it is of none.
func Correlation(ctx context.Context) string {
	id, _ := ctx.Value(correlationKey{}).(string)
	return id
}
