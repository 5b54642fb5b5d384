// Package monitoring names what custom resource definitions are made from for tests.
package monitoring

import _ "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
