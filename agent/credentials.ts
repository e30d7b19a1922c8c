/**
 * Who this agent is to its cluster: a key and the certificate for it, kept in its data folder. A join token gets the
 * first one; the certificate itself gets the next when two thirds of its life are over. Without any of it the agent
 * speaks to a server on its own machine only.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseJoinSecret } from '../src/api/trust.ts'
import type { BackoffPolicy } from '../src/lib/backoff.ts'
import { backoffMs } from '../src/lib/backoff.ts'
import type { Clock, Random } from '../src/lib/clock.ts'
import { sleep } from '../src/lib/clock.ts'
import { isOpError, messageOf } from '../src/lib/errors.ts'
import type { Logger } from '../src/lib/log.ts'
import { replacePrivateFile } from '../src/lib/replacefile.ts'
import { fingerprintOf, makeKey, makeRequest, readCertificate } from '../src/lib/x509.ts'
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
/** Between tries to renew, and the longest sleep: a timer of months does not outlive a Mac's naps. */
const LOOK_MS = 3_600_000

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
      const { authorityPem, localAddress } = await firstContact(doors.server, secret.authorityHash)
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

/** Our address on the way to the server now; while it does not answer, the one that it had. OpError Forbidden: another cluster. */
export async function addressTowards({ server, dataDir, log }: CredentialDoors, kept: Credentials): Promise<string> {
  try {
    const { localAddress: address } = await firstContact(server, fingerprintOf(kept.authorityPem))
    if (address !== kept.address) write(credentialsFile(dataDir), { ...kept, address })
    return address
  } catch (error) {
    if (isRefusal(error)) throw error
    log.warn('the server is not there yet', { server, error: messageOf(error) })
    return kept.address
  }
}

/** Renews in time, for ever; tells who uses the credentials. A failure is tried again within the hour. */
export async function keepFresh(
  doors: CredentialDoors,
  first: Credentials,
  onFresh: (credentials: Credentials) => void,
): Promise<void> {
  const { clock, log, signal } = doors
  let current = first
  while (!signal.aborted) {
    const { notBeforeMs, notAfterMs } = readCertificate(current.certificatePem)
    const waitMs = notBeforeMs + (notAfterMs - notBeforeMs) * RENEW_AT - clock.nowMs()
    if (waitMs > 0) {
      await sleep(clock, Math.min(waitMs, LOOK_MS), signal)
      continue
    }
    try {
      const keyPem = await makeKey()
      current = await signed(doors, current, { keyPem, requestPem: await requestOf(keyPem, doors.node) })
      log.info('certificate renewed', {
        until: new Date(readCertificate(current.certificatePem).notAfterMs).toISOString(),
      })
      onFresh(current)
    } catch (error) {
      log.warn('certificate not renewed; it is tried again', { error: messageOf(error) })
      await sleep(clock, LOOK_MS, signal)
    }
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
    const kept = { node, ...own, authorityPem, address, certificatePem: reply.certificatePem }
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
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as Kept
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}

const write = (file: string, kept: Kept): void => replacePrivateFile(file, JSON.stringify(kept))
