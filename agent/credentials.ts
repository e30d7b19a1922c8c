/**
 * Who this agent is to its cluster: a key and the certificate for it, kept in its data folder. A join token gets the
 * first one; the certificate itself gets the next when two thirds of its life are over. Without any of it the agent
 * speaks to a server on its own machine only.
 */
import { join } from 'node:path'
import { parseJoinSecret } from '../src/api/trust.ts'
import type { BackoffPolicy } from '../src/lib/backoff.ts'
import { backoffMs } from '../src/lib/backoff.ts'
import type { Clock, Random } from '../src/lib/clock.ts'
import { sleep } from '../src/lib/clock.ts'
import { isOpError, messageOf } from '../src/lib/errors.ts'
import type { OpError } from '../src/lib/errors.ts'
import type { Logger } from '../src/lib/log.ts'
import { replacePrivateFile } from '../src/lib/replacefile.ts'
import { textIfThere } from '../src/lib/textfile.ts'
import { certificatesIn } from '../src/lib/pem.ts'
import { fingerprintOf, fingerprintsIn, makeKey, makeRequest, readCertificate } from '../src/lib/x509.ts'
import { connect } from '../src/rpc/grpcclient.ts'
import { firstContact } from '../src/rpc/pin.ts'
import { isRefusal } from './session.ts'

export interface Credentials {
  readonly node: string
  readonly keyPem: string
  /** What the key asked with: the same text again is the same applicant. */
  readonly requestPem: string
  readonly authorityPem: string
  readonly certificatePem: string
  /** Ours on the way to the server, when it was last looked at. */
  readonly address: string
}

export interface CredentialDoors {
  readonly dataDir: string
  readonly server: string
  readonly node: string
  readonly labels: Readonly<Record<string, string>>
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  readonly signal: AbortSignal
}

const again: BackoffPolicy = { firstMs: 800, maxMs: 30_000, factor: 2, jitter: 0.2 }
/** Share of a certificate's life after which it is renewed. */
const RENEW_AT = 2 / 3
/** The longest sleep: a timer of months does not outlive a Mac's naps. */
const LOOK_MS = 3_600_000
const renewalRetry: BackoffPolicy = { firstMs: 1_000, maxMs: LOOK_MS, factor: 2, jitter: 0.2 }

export const credentialsFile = (dataDir: string): string => join(dataDir, 'credentials.json')

/** What an earlier join left; undefined: this agent never joined. */
export function readCredentials(dataDir: string): Credentials | undefined {
  const kept = read(credentialsFile(dataDir))
  return kept?.certificatePem === undefined || kept.authorityPem === undefined ? undefined : (kept as Credentials)
}

/**
 * Joins with the token: tries until the server is there. Rejects with the server's refusal, or OpError Forbidden when
 * the server is not the one that the token names. Undefined: the signal ended it.
 */
export async function joinCluster(doors: CredentialDoors, token: string): Promise<Credentials | undefined> {
  const { clock, random, log, signal } = doors
  const secret = parseJoinSecret(token)
  const { keyPem, requestPem } = await ownRequest(doors)
  for (let failures = 1; !signal.aborted; failures++) {
    try {
      const { authorityPem, localAddress } = await firstContact(doors.server, [secret.authorityHash])
      const kept = await signed(doors, { authorityPem, address: localAddress }, { keyPem, requestPem }, secret)
      log.info('joined the cluster', { server: doors.server })
      return kept
    } catch (error) {
      if (isRefusal(error) || isOpError(error, 'Conflict') || isOpError(error, 'Invalid')) throw error
      if (failures === 1) log.warn('cannot join yet', { server: doors.server, error: messageOf(error) })
      await sleep(clock, backoffMs(again, failures, random.next()), signal)
    }
  }
  return undefined
}

/**
 * Our address on the way to the server now; while it does not answer, the one that it had. OpError Forbidden: another
 * cluster, or one whose authority was changed for another one while we were away.
 */
export async function addressTowards(
  { server, dataDir, node, log }: CredentialDoors,
  kept: Credentials,
): Promise<string> {
  try {
    const { localAddress: address } = await firstContact(server, trustsOf(kept), strangerTo(node))
    if (address !== kept.address) write(credentialsFile(dataDir), { ...kept, address })
    return address
  } catch (error) {
    if (isRefusal(error)) throw error
    log.warn('the server is not there yet', { server, error: messageOf(error) })
    return kept.address
  }
}

/** A token that pins an authority which these credentials do not trust is newer than they are: its agent joins anew. */
export const isOutdatedBy = (kept: Credentials, token: string | undefined): boolean =>
  token !== undefined && !trustsOf(kept).includes(parseJoinSecret(token).authorityHash)

const strangerTo = (node: string) => (address: string) =>
  `the server at ${address} shows an authority that this agent does not know: the cluster changed its authority while this agent was away, the address is another cluster's, or somebody is in between. If it was changed, on the server: mctl node reset ${node} && mctl join-token create --node ${node}, and start this agent with that token (MCTL_TOKEN). Its shards run on meanwhile`

/** Fingerprints of the authorities that the credentials trust. */
export const trustsOf = ({ authorityPem }: Pick<Credentials, 'authorityPem'>): readonly string[] =>
  fingerprintsIn(authorityPem)

/** What the server says of its authorities: by fingerprint, all of them and the one that signs. */
export interface ToldTrust {
  readonly authorities: readonly string[]
  readonly signing: string
}

/** Do the credentials trust just these, with a certificate of the one that signs? */
export function isInLine(kept: Credentials, { authorities, signing }: ToldTrust): boolean {
  const known = certificatesIn(kept.authorityPem)
  const { issuer } = readCertificate(kept.certificatePem)
  const signer = known.find((pem) => readCertificate(pem).commonName === issuer)
  const own = known.map(fingerprintOf).sort()
  return own.join() === [...authorities].sort().join() && signer !== undefined && fingerprintOf(signer) === signing
}

/**
 * The credentials of an agent that runs: renewed in time, and when the server tells of other authorities than they are
 * of. A failure is tried again: the first ones soon, then within the hour.
 */
export class FreshCredentials {
  readonly #doors: CredentialDoors
  #current: Credentials
  #told: ToldTrust | undefined
  #wake: AbortController | undefined

  constructor(doors: CredentialDoors, first: Credentials) {
    this.#doors = doors
    this.#current = first
  }

  get current(): Credentials {
    return this.#current
  }

  /** The server's word, at the beginning of each session and at each change. */
  tell(trust: ToldTrust): void {
    this.#told = trust
    if (!isInLine(this.#current, trust)) this.#wake?.abort()
  }

  /** Why a server that answers is none of ours; undefined: it is, or nobody answers. */
  async strangerAt(): Promise<OpError | undefined> {
    const { server, node } = this.#doors
    try {
      await firstContact(server, trustsOf(this.#current), strangerTo(node))
      return undefined
    } catch (error) {
      return isOpError(error, 'Forbidden') ? error : undefined
    }
  }

  /** Runs until the signal aborts. */
  async keep(onFresh: (credentials: Credentials) => void): Promise<void> {
    const { clock, random, log, signal } = this.#doors
    for (let failures = 0; !signal.aborted;) {
      const waitMs = this.#dueMs()
      if (waitMs > 0) {
        await this.#sleep(Math.min(waitMs, LOOK_MS))
        continue
      }
      try {
        await this.#renew()
        onFresh(this.#current)
        failures = 0
      } catch (error) {
        failures += 1
        log.warn('certificate not renewed; it is tried again', { error: messageOf(error) })
        await sleep(clock, backoffMs(renewalRetry, failures, random.next()), signal)
      }
    }
  }

  async #renew(): Promise<void> {
    const { node, log } = this.#doors
    const keyPem = await makeKey()
    const told = this.#told
    this.#current = await signed(this.#doors, this.#current, { keyPem, requestPem: await requestOf(keyPem, node) })
    // An older word than the server's answer is no reason to ask again; a newer one comes with the next session.
    if (told === this.#told) this.#told = undefined
    const { notAfterMs, issuer } = readCertificate(this.#current.certificatePem)
    log.info('certificate renewed', { until: new Date(notAfterMs).toISOString(), issuer })
  }

  /** Ms until the next renewal; 0 or less: now. */
  #dueMs(): number {
    if (this.#told !== undefined && !isInLine(this.#current, this.#told)) return 0
    const { notBeforeMs, notAfterMs } = readCertificate(this.#current.certificatePem)
    return notBeforeMs + (notAfterMs - notBeforeMs) * RENEW_AT - this.#doors.clock.nowMs()
  }

  async #sleep(ms: number): Promise<void> {
    this.#wake = new AbortController()
    await sleep(this.#doors.clock, ms, AbortSignal.any([this.#doors.signal, this.#wake.signal]))
  }
}

/** Asks for the key's certificate, as who we are if we are somebody, and keeps it. */
async function signed(
  { dataDir, server, node, labels }: CredentialDoors,
  known: Pick<Credentials, 'authorityPem' | 'address'> & Partial<Credentials>,
  own: { readonly keyPem: string; readonly requestPem: string },
  token?: { readonly id: string; readonly secret: string },
): Promise<Credentials> {
  const { authorityPem, address, certificatePem, keyPem = '' } = known
  const tls = certificatePem === undefined ? { authorityPem } : { authorityPem, own: { certificatePem, keyPem } }
  const client = connect(server, { tls })
  try {
    const secret = token && { token: { id: token.id, secret: token.secret } }
    const reply = await client.join({ node, labels, requestPem: own.requestPem, ...secret })
    // Of a server whose authority was known: what it trusts now is what we trust.
    const trusted = certificatesIn(reply.authorityPem).length === 0 ? authorityPem : reply.authorityPem
    const kept = { node, ...own, authorityPem: trusted, address, certificatePem: reply.certificatePem }
    write(credentialsFile(dataDir), kept)
    return kept
  } finally {
    client.close()
  }
}

/** The key that asks, made once: an answer that got lost is asked for again by the same applicant. */
async function ownRequest({ dataDir, node }: CredentialDoors) {
  const kept = read(credentialsFile(dataDir))
  if (kept?.node === node) return { keyPem: kept.keyPem, requestPem: kept.requestPem }
  const keyPem = await makeKey()
  const fresh = { node, keyPem, requestPem: await requestOf(keyPem, node) }
  write(credentialsFile(dataDir), fresh)
  return fresh
}

const requestOf = (keyPem: string, node: string) => makeRequest(keyPem, { commonName: node, organization: '' })

type Kept = Pick<Credentials, 'node' | 'keyPem' | 'requestPem'> & Partial<Credentials>

function read(file: string): Kept | undefined {
  const text = textIfThere(file)
  return text === undefined ? undefined : (JSON.parse(text) as Kept)
}

const write = (file: string, kept: Kept): void => replacePrivateFile(file, JSON.stringify(kept))
