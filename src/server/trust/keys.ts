/**
 * The keys of the cluster's authorities, in files of 0600 in a folder of 0700: `authority.pem`, whose certificates the
 * server shows, and while the cluster changes from one to the next `authority-next.pem`. Who owns that folder owns the
 * cluster. A key and its certificate are one file, so that one rename puts both in place.
 */
import { mkdirSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { authorityName } from '../../api/authority.ts'
import type { Clock } from '../../lib/clock.ts'
import { replacePrivateFile } from '../../lib/replacefile.ts'
import { textIfThere } from '../../lib/textfile.ts'
import type { Authority as KeyAndCertificate } from '../../lib/x509.ts'
import { fingerprintOf, makeAuthority } from '../../lib/x509.ts'

const AUTHORITY_LIFE_MS = 3650 * 86_400_000
/** Clocks of the machines that check what the server's machine shows may be behind its own by so much. */
export const SKEW_MS = 5 * 60_000

/** In the server's data folder, and in a backup of it. */
export const keyFiles = [join('trust', 'authority.pem'), join('trust', 'authority-next.pem')] as const
const [SHOWN, NEXT] = keyFiles

export interface KeptKey extends KeyAndCertificate {
  /** Of its Authority object. */
  readonly name: string
}

/** All that are there, the shown one first. */
export function readKeys(dataDir: string): readonly KeptKey[] {
  return keyFiles.flatMap((file) => readKey(dataDir, file) ?? [])
}

function readKey(dataDir: string, file: string): KeptKey | undefined {
  const text = textIfThere(join(dataDir, file))
  if (text === undefined) return undefined
  const at = text.indexOf('-----BEGIN CERTIFICATE-----')
  const certificatePem = text.slice(at).trim()
  return { keyPem: text.slice(0, at), certificatePem, name: authorityName(fingerprintOf(certificatePem)) }
}

/** The cluster's first authority. */
export const makeFirstKey = (dataDir: string, clusterUid: string, clock: Clock): Promise<KeptKey> =>
  make(dataDir, SHOWN, `mctl ${clusterUid}`, clock)

/** The one after it; `suffix` keeps its subject apart from every other's. A next one that nobody was told of gives way. */
export const makeNextKey = (dataDir: string, clusterUid: string, suffix: string, clock: Clock): Promise<KeptKey> =>
  make(dataDir, NEXT, `mctl ${clusterUid} ${suffix}`, clock)

async function make(dataDir: string, file: string, subject: string, clock: Clock): Promise<KeptKey> {
  const notBeforeMs = clock.nowMs() - SKEW_MS
  const made = await makeAuthority(subject, { notBeforeMs, notAfterMs: notBeforeMs + AUTHORITY_LIFE_MS })
  mkdirSync(join(dataDir, 'trust'), { recursive: true, mode: 0o700 })
  replacePrivateFile(join(dataDir, file), `${made.keyPem}\n${made.certificatePem}\n`)
  return { ...made, name: authorityName(fingerprintOf(made.certificatePem)) }
}

/**
 * Puts the files as the cluster's authorities are: when the shown one is retired, the next takes its place in one step; a
 * next key that is of none of them is removed if `drops` (it may be one that is just being made known). Answers what is
 * kept. Safe to repeat after a crash at any moment.
 */
export function settleKeys(dataDir: string, names: readonly string[], drops: boolean): readonly KeptKey[] {
  const [shown, next] = keyFiles.map((file) => ({ path: join(dataDir, file), name: readKey(dataDir, file)?.name }))
  const isOurs = (name: string | undefined) => name !== undefined && names.includes(name)
  if (next?.name !== undefined && shown !== undefined) {
    if (isOurs(next.name) && !isOurs(shown.name)) renameSync(next.path, shown.path)
    if (drops && !isOurs(next.name)) rmSync(next.path)
  }
  return readKeys(dataDir).filter(({ name }) => isOurs(name))
}
