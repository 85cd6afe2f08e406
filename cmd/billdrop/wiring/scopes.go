package wiring

import (
	"context"
	"errors"
	"log/slog"
	"slices"

	"billdrop/cmd/billdrop/config"
	"billdrop/cmd/billdrop/describe"
	"billdrop/cmd/billdrop/engine"
	"billdrop/ingest/ledger"
)

// Scopes are the scopes of the feeds as configured now, in their order, and then the
// same merchants in the other mode: bills of a test phase are asked for after going live.
func Scopes(conf *config.Config) []ledger.Scope {
	var scopes []ledger.Scope
	for _, other := range []bool{false, true} {
		for i := range conf.Feeds {
			f := &conf.Feeds[i]
			scope := ledger.Scope{Merchant: f.Merchant, Mode: "test"}
			if f.API.Live != other {
				scope.Mode = "live"
			}
			if !slices.Contains(scopes, scope) {
				scopes = append(scopes, scope)
			}
		}
	}
	return scopes
}

// ReadPayments reads the payments of the merchants of all feeds, newest first; none if none was
// ever received.
func ReadPayments(ctx context.Context, conf *config.Config, log *slog.Logger, q ledger.PaymentQuery) ([]describe.Payment, error) {
	list := []describe.Payment{}
	location, err := engine.Configured(conf, log)
	if err != nil {
		return nil, err
	}
	store, err := location.ReadPayments(ctx)
	if errors.Is(err, ledger.ErrNotFound) {
		return list, nil
	}
	if err != nil {
		return nil, err
	}
	for _, scope := range Scopes(conf) {
		found, err := store.List(ctx, scope, q)
		if err != nil {
			return nil, errors.Join(err, store.Close())
		}
		for i := range found {
			list = append(list, describe.NewPayment(scope, &found[i]))
		}
	}
	slices.SortStableFunc(list, func(a, b describe.Payment) int { return b.ReceivedAt.Compare(a.ReceivedAt.Time) })
	if q.Limit > 0 {
		list = list[:min(len(list), q.Limit)]
	}
	return list, store.Close()
}
