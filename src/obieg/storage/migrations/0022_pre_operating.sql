-- What operators say on all pages, and when the audit was verified as a whole.

CREATE TABLE site_notice (
  notice_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  said text NOT NULL,                          -- '': nothing from now on
  until timestamptz NOT NULL,
  said_by text NOT NULL,
  made_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE audit_verification (
  verified_at timestamptz PRIMARY KEY DEFAULT now(),
  records bigint NOT NULL,
  deviations bigint NOT NULL
);
