package api

import (
	"context"
	"net/http"
	"strconv"

	"ropeway/hub/internal/access"
	"ropeway/hub/internal/model"
	"ropeway/protocol/fault"
)

type auditList struct{ Body list[model.AuditRow] }

type auditCheckOutput struct{ Body model.AuditCheck }

type versionOutput struct{ Body model.VersionInfo }

type whoOutput struct{ Body model.WhoAmI }

func (s *server) auditRoutes() {
	route(s, op{id: "list-audit", method: http.MethodGet, path: "/api/v1/audit", right: access.ReadAudit,
		summary: "List the audit log, newest first"}, s.listAudit)
	route(s, op{id: "verify-audit", method: http.MethodGet, path: "/api/v1/audit/verify", right: access.ReadAudit,
		summary: "Check that nothing in the audit log was changed"},
		func(ctx context.Context, _ *struct{}) (*auditCheckOutput, error) {
			rows, err := s.Audit.VerifyAudit(ctx, callerOf(ctx).Tenant)
			if f := fault.From(err); f != nil && f.Code == "E_INTERNAL" {
				return nil, err
			}
			return &auditCheckOutput{Body: model.AuditCheck{OK: err == nil, Rows: rows, Fault: fault.From(err)}}, nil
		})
	route(s, op{id: "version", method: http.MethodGet, path: "/api/v1/version", right: rightNone, summary: "Show the version"},
		func(context.Context, *struct{}) (*versionOutput, error) {
			return &versionOutput{Body: model.VersionInfo{Version: s.Version, API: "v1"}}, nil
		})
	route(s, op{id: "who-am-i", method: http.MethodGet, path: "/api/v1/me", right: access.View, summary: "Show who the token belongs to"},
		s.whoAmI)
}

func (s *server) listAudit(ctx context.Context, in *struct{ Paging }) (*auditList, error) {
	var before uint64
	if in.Cursor != "" {
		seq, err := strconv.ParseUint(in.Cursor, 10, 64)
		if err != nil {
			return nil, badRequest("cursor", "the cursor is not one of this list")
		}
		before = seq
	}
	rows, err := s.Audit.AuditEntries(ctx, callerOf(ctx).Tenant, in.Limit, before)
	if err != nil {
		return nil, err
	}
	var out []model.AuditRow
	for _, e := range rows.Items {
		out = append(out, auditRow(e))
	}
	next := ""
	if rows.Next > 0 {
		next = strconv.FormatUint(rows.Next, 10)
	}
	return &auditList{Body: listOf(out, next)}, nil
}

func auditRow(e model.AuditEntry) model.AuditRow {
	return model.AuditRow{Seq: e.Seq, At: e.At, Environment: e.Environment, Actor: e.Actor, Action: e.Action, Kind: e.Kind,
		Object: e.Object, Detail: e.Detail, Prev: e.Prev.String(), Hash: e.Hash.String()}
}

func (s *server) whoAmI(ctx context.Context, _ *struct{}) (*whoOutput, error) {
	caller := callerOf(ctx)
	all, err := s.Places.Environments(ctx, caller.Tenant)
	if err != nil {
		return nil, err
	}
	out := model.WhoAmI{Name: caller.Name, Role: caller.Role, Tenant: caller.Tenant, Environments: []string{}}
	for _, e := range all {
		if _, err := s.scope(ctx, Where{Environment: e.Name}); err == nil {
			out.Environments = append(out.Environments, e.Name)
		}
	}
	return &whoOutput{Body: out}, nil
}
