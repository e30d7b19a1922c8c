/**
 * Credentials by reference: `credentials/NAME/` in the server's data folder holds one secret per file. They reach git by
 * the files themselves; nothing here ever reads a secret into a log, an argument or an object.
 */
import { existsSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { OpError } from '../lib/errors.ts'
import { sshCommand } from './git.ts'

export type SecretName = 'username' | 'password' | 'token' | 'ssh-key' | 'known-hosts' | 'webhook-secret'
export type KeyringName = 'allowed-signers' | 'keyring.asc'

/** The path of a file of the reference, or undefined where it has none. OpError Invalid when others may read it. */
export function secretFile(folder: string, reference: string, name: SecretName | KeyringName): string | undefined {
  const file = join(folder, reference, name)
  if (!existsSync(file)) return undefined
  const stat = statSync(file)
  const isPublic = name === 'known-hosts' || name === 'allowed-signers' || name === 'keyring.asc'
  if (!isPublic && (stat.mode & 0o077) !== 0)
    throw new OpError('Invalid', `credentials "${reference}": others may read ${file}; say: chmod 600 ${file}`)
  return file
}

/** The secret itself, for comparing signatures. */
export function readSecret(folder: string, reference: string, name: SecretName): string | undefined {
  const file = secretFile(folder, reference, name)
  return file === undefined ? undefined : readFileSync(file, 'utf8').trim()
}

/** git asks this script for user name and password; it answers from the files that the environment names. */
export const ASKPASS_SCRIPT = `#!/bin/sh
# Written by mctl: answers git's questions from files.
case "$1" in
Username*) if [ -f "$MCTL_GIT_USERNAME" ]; then cat "$MCTL_GIT_USERNAME"; else echo x-access-token; fi ;;
*) cat "$MCTL_GIT_PASSWORD" ;;
esac
`

/** What git gets beside its plain environment to be let in. OpError Invalid says which file is missing. */
export function credentialEnvironment(
  folder: string,
  reference: string | undefined,
  url: string,
  askpass: string,
): Readonly<Record<string, string>> {
  if (reference === undefined) return {}
  const missing = (what: string) =>
    new OpError(
      'Invalid',
      `credentials "${reference}": ${join(folder, reference)} on the server's machine has no ${what}`,
    )
  const file = (name: SecretName) => secretFile(folder, reference, name)
  if (url.startsWith('ssh://')) {
    const [key, hosts] = [file('ssh-key'), file('known-hosts')]
    if (key === undefined) throw missing('file ssh-key')
    if (hosts === undefined) throw missing('file known-hosts (a line for the host, as ssh-keyscan prints it)')
    return { GIT_SSH_COMMAND: sshCommand(key, hosts) }
  }
  const password = file('token') ?? file('password')
  if (password === undefined) throw missing('file token (or username and password)')
  return {
    GIT_ASKPASS: askpass,
    MCTL_GIT_USERNAME: file('username') ?? '',
    MCTL_GIT_PASSWORD: password,
  }
}
