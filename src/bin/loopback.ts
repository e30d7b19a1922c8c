/** DESIGN §10: everything listens on loopback until the cluster has identities. */
import { isLoopbackHost, splitHostPort } from '../lib/hostport.ts'
import { CliError } from '../cli/context.ts'

/** `address` is `host:port`. */
export const isLoopback = (address: string): boolean => isLoopbackHost(splitHostPort(address).host)

/** CliError for an address that others reach; `remedy` says what to do instead. */
export function requireLoopback(address: string, what: string, remedy: string): void {
  if (isLoopback(address)) return
  throw new CliError(
    `${what} ${address} is not a loopback address. Whoever reaches it could run models and read every prompt. ${remedy}`,
  )
}

/** For a gateway of a cluster that does not know who calls. */
export const NEEDS_IDENTITIES =
  'Give the server such an address too (--listen HOST:PORT): then the cluster has identities, and the gateway asks for API keys.'
/** Calls are signed, not encrypted: what carries TLS stands before the door. */
export const WEBHOOKS_BY_PROXY =
  'Listen on 127.0.0.1:PORT, and let a proxy on this machine (Caddy, nginx) or a tunnel of your git host bring the calls.'
/** Names of nodes and deployments stand in them, and nobody is asked who he is. */
export const METRICS_BY_PROXY =
  'Listen on 127.0.0.1:PORT, and let a Prometheus or an agent of it (node exporter proxy, Grafana Alloy) on this machine read there.'
export const ONE_MACHINE =
  '`mctl dev` is for one machine; `mctl server --listen HOST:PORT` and `mctl agent --token` are for several.'
