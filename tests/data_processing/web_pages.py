"""Pages as people's tools write them: an article with everything around it, documentation, pages that are code."""

ARTICLE = """<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>How iron was made | The Times</title>
<style>.x{color:red}</style><script>var tracker = "IN_SCRIPT";</script></head><body class="has-sidebar no-footer">
<div id="cookie-banner" class="cookie-consent">We use COOKIES to improve this. <button>Accept all</button></div>
<header class="site-header"><a href="/">The Times</a><nav><ul><li><a href="/news">NEWS</a></li>
<li><a href="/sport">SPORT</a></li><li><a href="/about">ABOUT us</a></li></ul></nav></header>
<main class="content-sidebar"><article><h1>How iron was made</h1><p class="byline">By A. Smith, 3 May</p>
<p>The bloomery is a type of furnace once used widely for smelting iron. It was the earliest form of smelter.</p>
<h2>Charcoal</h2><p>Charcoal burns hot &amp; clean, and the air is blown by <em>bellows</em> near the bottom.</p>
<ul><li>Ore is roasted</li><li>Charcoal is made<ul><li>slowly</li></ul></li><li>Air is blown</li></ul>
<ol start="3"><li><p>Third</p></li><li>Fourth</li></ol>
<p style="color: red; DISPLAY : none">HIDDEN_BY_STYLE</p><p hidden>HIDDEN_BY_ATTRIBUTE</p>
<div aria-hidden="true">HIDDEN_FROM_READERS</div><span class="sr-only">READ_ALOUD</span>
<figure><img src="a.png" alt="OF_PICTURE"><figcaption>A furnace in use.</figcaption></figure>
<blockquote><p>Strike while the iron is hot.</p></blockquote>
<p>Line one<br>Line two<br><br>After a break</p>
<table><caption>Metals</caption><tr><th>Metal</th><th>Melts at</th></tr><tr><td>Iron</td><td>1538</td></tr>
<tr><td>Gold</td><td></td></tr></table>
<p>Smelting ended when the blast furnace came, and with it the bloom was forgotten by nearly everybody.</p>
</article><aside class="sidebar"><h3>MOST_READ</h3><ul><li><a href="/1">Ten best hammers</a></li></ul></aside>
<section id="comments"><h3>2 comments</h3><div class="comment"><p>COMMENT great article!</p></div></section></main>
<footer><p>COPYRIGHT 2024 The Times. All rights reserved.</p><a href="/privacy">Privacy policy</a></footer>
<noscript>Please enable NO_SCRIPT</noscript></body></html>"""

ARTICLE_TEXT = """How iron was made

By A. Smith, 3 May

The bloomery is a type of furnace once used widely for smelting iron. It was the earliest form of smelter.

Charcoal

Charcoal burns hot & clean, and the air is blown by bellows near the bottom.

- Ore is roasted
- Charcoal is made
  - slowly
- Air is blown

3. Third
4. Fourth

A furnace in use.

Strike while the iron is hot.

Line one
Line two

After a break

Metals

Metal | Melts at
Iron | 1538
Gold |

Smelting ended when the blast furnace came, and with it the bloom was forgotten by nearly everybody."""

DOCUMENTATION = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8" /><title>textwrap &#8212; Python documentation</title></head><body>
<div class="related" role="navigation" aria-label="related navigation"><h3>NAVIGATION</h3><ul>
<li class="right"><a href="../genindex.html">GENERAL_INDEX</a></li><li><a href="index.html">Library</a> &#187;</li></ul>
</div><div class="document"><div class="documentwrapper"><div class="bodywrapper"><div class="body" role="main">
<section id="module-textwrap"><h1><code class="docutils"><span class="pre">textwrap</span></code> — Text wrapping<a
class="headerlink" href="#module-textwrap" title="Permalink to this heading">¶</a></h1>
<dl class="py function"><dt class="sig" id="textwrap.wrap"><span class="descclassname">textwrap.</span><span
class="descname">wrap</span>(<em><span class="n">text</span></em>, <em><span>width</span>=<span>70</span></em>)<a
class="headerlink" href="#textwrap.wrap">¶</a></dt><dd><p>Wraps the single paragraph in <em>text</em> (a string).</p>
</dd></dl>
<div class="highlight-python3"><div class="highlight"><pre><span></span><span class="k">def</span> <span>test</span>():
    <span class="c1"># end first line with \\</span>
    <span class="n">s</span> <span class="o">=</span> <span class="s1">&#39;&#39;&#39;</span>

<span class="s1">      world</span>
	tab
</pre></div></div>
<div class="admonition note"><p class="admonition-title">Note</p><p>Newlines may appear in a line.</p></div>
<table class="docutils"><thead><tr class="row-odd"><th class="head"><p>Name</p></th><th class="head"><p>Meaning</p></th>
</tr></thead><tbody><tr class="row-even"><td><p>width</p></td><td><p>maximum length of lines</p></td></tr></tbody>
</table>
<ul class="simple"><li><p>first point</p></li><li><p>second point</p></li></ul>
</section></div></div></div></div>
<div class="sphinxsidebar" role="navigation" aria-label="main navigation"><div class="sphinxsidebarwrapper"><h4>PREVIOUS
topic</h4><p class="topless"><a href="re.html">re</a></p></div></div>
<div class="footer">&copy; <a href="c">Copyright</a> 2001-2024. CREATED_USING Sphinx.</div></body></html>"""

DOCUMENTATION_TEXT = """textwrap — Text wrapping

textwrap.wrap(text, width=70)
Wraps the single paragraph in text (a string).

def test():
    # end first line with \\
    s = '''

      world
\ttab

Note

Newlines may appear in a line.

Name | Meaning
width | maximum length of lines

- first point
- second point"""

CODE = """<html><head><title>sort.c - source</title></head><body>
<div class="nav"><a href="/">Home</a> | <a href="/browse">BROWSE</a></div><h1>sort.c</h1>
<table><tr><td class="linenos"><pre>1
2</pre></td><td class="code"><pre><code class="language-c">
#include &lt;stdio.h&gt;

int main(void)
{
\tfor (int i = 0; i &lt; 10; i++) {
\t\tprintf("%d\\n", i);
\t}
}
</code></pre></td></tr></table></body></html>"""

CODE_TEXT = """sort.c

#include <stdio.h>

int main(void)
{
\tfor (int i = 0; i < 10; i++) {
\t\tprintf("%d\\n", i);
\t}
}"""

PYDOC = """<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Python: module bisect</title></head><body>
<table class="heading"><tr class="heading-text"><td class="title">&nbsp;<br><strong>bisect</strong></td><td
class="extra"><a href=".">index</a><br><a href="file:bisect.py">/usr/lib/bisect.py</a></td></tr></table>
<p><span class="code">Bisection&nbsp;algorithms.</span></p><p>
<table class="section"><tr><td colspan=3>&nbsp;<br><strong class="bigsection">Functions</strong></td></tr>
<tr><td><span class="code">&nbsp;&nbsp;&nbsp;</span></td><td>&nbsp;</td><td><dl><dt><a name="-bisect"><strong>bisect
</strong></a>(a,&nbsp;x)</dt><dd><span class="code">Return&nbsp;the&nbsp;index.<br>
&nbsp;<br>
&nbsp;&nbsp;&nbsp;&nbsp;lo:&nbsp;where&nbsp;to&nbsp;begin</span></dd></dl></td></tr></table></body></html>"""

NINETIES = """<html><head><title>FAQ</title></head><body bgcolor=white><center><h1>The library</h1></center>
<table><tr><td><b>Menu</b><br><ul><li><a href=1>HOME</a><li><a href=2>DOWNLOAD</a><li><a href=3>CONTACT</a></ul></td>
<td><h2>Questions</h2><p>The compiler does not find the headers? Set the <a href=4>path</a> to them.
<p>It does not link? Then ask your linker, which knows more.
<pre>
cc -I/usr/include
   -lxslt
</pre></td></tr></table><p><a href=1>HOME</a> <a href=2>MIRRORS</a> <a href=3>SEARCH</a></body></html>"""

ONLY_NAVIGATION = """<html><head><title>Home</title></head><body><nav><ul><li><a href=a>News</a></li></ul></nav>
<footer>Copyright</footer></body></html>"""
