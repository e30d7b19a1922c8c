/** The real hub over HTTP: ranges, redirects, and a token that leaves this process only towards the hub itself. */
import type { Dispatcher } from 'undici'
import { nodeDnsName } from '../../src/api/trust.ts'
import { OpError } from '../../src/lib/errors.ts'
import type { HubGet, PeerGet } from './doors.ts'
import { getOnce, makeDispatcher } from './http.ts'

export interface HubOptions {
  /** As HF_ENDPOINT: scheme and host, perhaps a path. */
  readonly endpoint: string
  /** As HF_TOKEN. Never logged, never in an error. */
  readonly token?: string
}

export const DEFAULT_ENDPOINT = 'https://huggingface.co'
const MAX_REDIRECTS = 5
const PEER_CONNECT_TIMEOUT_MS = 3_000

/** The endpoint without its last slash; OpError Invalid when it is no http(s) address. */
export function checkEndpoint(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url === undefined || !/^https?:$/.test(url.protocol) || url.username !== '' || url.password !== '')
    throw new OpError(
      'Invalid',
      `HF_ENDPOINT must be an http or https address without a user, for example ${DEFAULT_ENDPOINT}`,
    )
  return text.replace(/\/+$/, '')
}

/** Of any address; one on https is never followed to one that is not. */
export function hubGet({ endpoint, token }: HubOptions): HubGet {
  const dispatcher = makeDispatcher()
  const home = new URL(endpoint).origin
  return async (address, { from, signal, ifRange }) => {
    let url = new URL(address)
    for (let hop = 0; hop <= MAX_REDIRECTS; hop++) {
      const own = url.origin === home && token !== undefined && token !== ''
      const headers = {
        ...plainHeaders,
        ...rangeFrom(from),
        ...(ifRange === undefined || from === 0 ? {} : { 'if-range': ifRange }),
        ...(own ? { authorization: `Bearer ${token}` } : {}),
      }
      const answer = await getOnce(dispatcher, url, headers, signal)
      const location = answer.header('location')
      if (answer.status < 300 || answer.status >= 400 || location === undefined) return answer
      answer.drop()
      const next = new URL(location, url)
      if (next.protocol !== 'https:' && (next.protocol !== 'http:' || url.protocol === 'https:')) break
      url = next
    }
    throw new OpError('Unavailable', `the hub redirects without end, or to no address, at last from ${url.origin}`)
  }
}

export interface PeerCredentials {
  readonly authorityPem: string
  readonly certificatePem: string
  readonly keyPem: string
}

/**
 * Of a peer's door. It redirects nowhere, and no token ever goes there. With credentials (read anew for each request,
 * for they are renewed) both sides show who they are, and the peer must be the node that the server named.
 */
export function peerGet(credentials?: () => PeerCredentials): PeerGet {
  const plain = credentials === undefined ? makeDispatcher({ timeout: PEER_CONNECT_TIMEOUT_MS }) : undefined
  const secured = new Map<string, { readonly certificatePem: string; readonly dispatcher: Dispatcher }>()
  const securedFor = (node: string, { authorityPem, certificatePem, keyPem }: PeerCredentials): Dispatcher => {
    const known = secured.get(node)
    if (known?.certificatePem === certificatePem) return known.dispatcher
    const identity = { ca: authorityPem, cert: certificatePem, key: keyPem, servername: nodeDnsName(node) }
    const dispatcher = makeDispatcher({ timeout: PEER_CONNECT_TIMEOUT_MS, ...identity })
    secured.set(node, { certificatePem, dispatcher })
    return dispatcher
  }
  return ({ node, address, port }, path, { from, signal }) => {
    const host = address.includes(':') ? `[${address}]` : address
    const url = new URL(`${plain === undefined ? 'https' : 'http'}://${host}:${port}${path}`)
    const dispatcher = plain ?? (credentials && securedFor(node, credentials()))
    if (dispatcher === undefined) return Promise.reject(new OpError('Internal', 'no way to speak to peers'))
    return getOnce(dispatcher, url, { ...plainHeaders, ...rangeFrom(from) }, signal)
  }
}

const plainHeaders = { 'accept-encoding': 'identity', 'user-agent': 'mctl' }
const rangeFrom = (from: number) => (from > 0 ? { range: `bytes=${from}-` } : {})
