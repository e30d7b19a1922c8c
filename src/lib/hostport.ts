/** Addresses as people and flags write them: `host:port`, and `[2001:db8::1]:port` for IPv6. */

export interface HostPort {
  /** Without brackets. */
  readonly host: string
  /** NaN where what follows the last colon is no number. */
  readonly port: number
}

export function splitHostPort(address: string): HostPort {
  const colon = address.lastIndexOf(':')
  return { host: address.slice(0, colon).replace(/^\[|\]$/g, ''), port: Number(address.slice(colon + 1) || NaN) }
}

/** Only this machine reaches it. `host` as `splitHostPort` has it. */
export const isLoopbackHost = (host: string): boolean =>
  host === 'localhost' || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host)

export const joinHostPort = (host: string, port: number): string =>
  host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
