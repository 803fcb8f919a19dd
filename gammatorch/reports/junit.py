"""Gain audits as JUnit XML, which continuous integration shows: a suite for each model, a case for each site."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree

from gammatorch.reports.text import printable
from gammatorch.results.audit import AuditFinding, CheckDocument


def to_junit(documents: Sequence[CheckDocument]) -> str:
    """The audits as the text of one XML file; an error is a failure of its site, warnings and notes are its output.

    Args:
        documents: Of each model.
    """
    suites = ElementTree.Element("testsuites", name="gammatorch check")
    for document in documents:
        cases = [_case(document, site) for site in _sites(document)]
        failures = str(sum(case.find("failure") is not None for case in cases))
        name = printable(document.model)
        suite = ElementTree.SubElement(suites, "testsuite", name=name, tests=str(len(cases)), failures=failures)
        suite.extend(cases)
    ElementTree.indent(suites)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(suites, encoding="unicode") + "\n"


def _sites(document: CheckDocument) -> list[str]:
    """The sites that were read, and those that only findings name."""
    told = (site for finding in document.findings for site in finding.site.split(", "))
    return list(dict.fromkeys([*(site.site for site in document.sites), *told]))


def _case(document: CheckDocument, site: str) -> ElementTree.Element:
    case = ElementTree.Element("testcase", classname=printable(document.model), name=printable(site))
    findings = [finding for finding in document.findings if site in finding.site.split(", ")]
    for finding in findings:
        if finding.level == "error":
            text = printable(finding.text, None)
            ElementTree.SubElement(case, "failure", type=finding.what, message=text).text = _line(finding)
    if rest := [_line(finding) for finding in findings if finding.level != "error"]:
        ElementTree.SubElement(case, "system-out").text = "\n".join(rest)
    return case


def _line(finding: AuditFinding) -> str:
    return printable(f"{finding.level}: {finding.site}: {finding.what}: {finding.text}", None)
