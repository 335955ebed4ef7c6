package main

import (
	"context"
	"fmt"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
)

// serveGRPC serves gRPC's health protocol until SIGTERM: NOT_SERVING while the model loads.
func serveGRPC(ctx context.Context, loaded <-chan struct{}, address string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	fmt.Println("stubengine: gRPC on", address)
	s, h := grpc.NewServer(), health.NewServer()
	grpc_health_v1.RegisterHealthServer(s, h)
	h.SetServingStatus("", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	for {
		select {
		case err := <-served:
			return err
		case <-loaded:
			h.SetServingStatus("", grpc_health_v1.HealthCheckResponse_SERVING)
			loaded = nil
		case <-ctx.Done():
			s.GracefulStop()
			return <-served
		}
	}
}
