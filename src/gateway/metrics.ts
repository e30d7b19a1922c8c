/** What `/metrics` tells Prometheus of the gateway. Own registry: two gateways in one test process do not mix. */
import { Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from 'prom-client'
import type { Balancer } from './balancer.ts'

export interface GatewayMetrics {
  readonly registry: Registry
  readonly requests: Counter<'model' | 'code'>
  readonly retries: Counter<'model'>
  readonly brokenOff: Counter<'model'>
  readonly firstByteSeconds: Histogram<'model'>
}

export function makeMetrics(balancer: Balancer): GatewayMetrics {
  const registry = new Registry()
  const registers = [registry]
  collectDefaultMetrics({ register: registry })
  new Gauge({
    name: 'mctl_gateway_in_flight',
    help: 'Requests that an engine is working on',
    registers,
    collect() {
      this.set(balancer.inFlight())
    },
  })
  new Gauge({
    name: 'mctl_gateway_waiting',
    help: 'Requests that wait for a place at a replica',
    registers,
    collect() {
      this.set(balancer.waiting())
    },
  })
  return {
    registry,
    requests: new Counter({
      name: 'mctl_gateway_requests_total',
      help: 'Requests by answer',
      labelNames: ['model', 'code'],
      registers,
    }),
    retries: new Counter({
      name: 'mctl_gateway_retries_total',
      help: 'Tries at another replica before the first byte',
      labelNames: ['model'],
      registers,
    }),
    brokenOff: new Counter({
      name: 'mctl_gateway_broken_off_total',
      help: 'Answers that broke off after their first byte',
      labelNames: ['model'],
      registers,
    }),
    firstByteSeconds: new Histogram({
      name: 'mctl_gateway_first_byte_seconds',
      help: 'Time from request to first byte of the answer',
      labelNames: ['model'],
      buckets: [0.005, 0.02, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 120],
      registers,
    }),
  }
}
